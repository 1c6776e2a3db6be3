"""The attention measures during training: do new blocks turn lazy, and when?"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.diagnosis.layers import lazy_heads, summarise
from inheritune.diagnosis.measuring import measure_sequences
from inheritune.diagnosis.sequences import TokenRows, unpadded


@dataclass(frozen=True)
class Glance:
    """The layers at one step of a training; one value a layer, None where it has no softmax attention.

    `lazy` are the layers whose every head has k* = 1 on every sequence, `lazy_heads` the heads whose mean k* is at most 1.5,
    by layer.
    """

    step: int
    max_rank: list[float | None]
    mass: list[float | None]
    lazy_share: list[float | None]
    lazy: list[int]
    lazy_heads: dict[int, list[int]]


def glance(model: PreTrainedModel, sequences: list[Tensor], step: int, threshold: float = 0.90) -> Glance:
    """Measure the layers on unpadded sequences, 1-D each. The model's weights, modes, gradients and random state are left alone."""
    layers = summarise(measure_sequences(model, sequences, threshold))
    return Glance(
        step=step,
        max_rank=[layer.max_rank for layer in layers],
        mass=[layer.mass for layer in layers],
        lazy_share=[layer.lazy_share for layer in layers],
        lazy=[layer.index for layer in layers if layer.lazy],
        lazy_heads=lazy_heads(layers),
    )


def watch(
    model: PreTrainedModel, tokens: TokenRows, *, every: int, threshold: float = 0.90
) -> Callable[[int], Glance | None]:
    """A function for a training loop: called with the step, it measures every `every` steps and gives a `Glance`.

    `tokens` (N, T) stay the same all along. Like `glance`, it leaves the training unaffected.
    """
    sequences = unpadded(model, tokens, None)
    return lambda step: None if step % every else glance(model, sequences, step, threshold)
