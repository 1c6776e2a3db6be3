"""The attention measures during training: do new blocks turn lazy, and when?"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from inheritune.diagnosis.layers import summarise
from inheritune.diagnosis.measuring import measure_sequences
from inheritune.diagnosis.sequences import TokenRows, unpadded
from inheritune.disk.files import append


@dataclass(frozen=True)
class Glance:
    """The layers at one step of a training; one value a layer, None where it has no softmax attention."""

    step: int
    max_rank: list[float | None]
    mass: list[float | None]
    lazy_share: list[float | None]
    lazy: list[int]


def watch(
    model: PreTrainedModel, tokens: TokenRows, *, every: int, threshold: float = 0.90, log: Path | None = None
) -> Callable[[int], Glance | None]:
    """A callback for a training loop: called with the step, it measures every `every` steps and gives a `Glance`.

    `tokens` (N, T) stay the same all along. The model's weights, modes, gradients and random state are left alone.
    With `log`, each glance is a line of JSON there.
    """
    sequences = unpadded(model, tokens, None)

    def look(step: int) -> Glance | None:
        if step % every:
            return None
        layers = summarise(measure_sequences(model, sequences, threshold))
        glance = Glance(
            step=step,
            max_rank=[layer.max_rank for layer in layers],
            mass=[layer.mass for layer in layers],
            lazy_share=[layer.lazy_share for layer in layers],
            lazy=[layer.index for layer in layers if layer.lazy],
        )
        if log is not None:
            append(log, json.dumps(vars(glance)) + "\n")
        return glance

    return look
