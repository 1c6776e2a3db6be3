"""The input of a row term."""

from dataclasses import dataclass

from torch import Tensor

from inheritune.config.sections import Objective


@dataclass(frozen=True)
class Rows:
    """A piece of the rows: the model's logits (N, V) and its teacher's where there is one, in float32, and the labels (N,)."""

    logits_NV: Tensor
    labels_N: Tensor
    teacher_NV: Tensor | None
    wanted: Objective
