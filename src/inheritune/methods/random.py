"""The target's shape from random weights: for the same steps, for twice as many, for what inheritune spends in all."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import fresh


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return fresh(given.reference, given.depth, given.seed)


METHODS = {
    "random": Method("random initialisation", (Phase(_start),), needs_reference=False),
    "random-twice": Method("random initialisation, twice the steps", (Phase(_start, 2.0),), needs_reference=False),
    "random-total": Method(
        "random initialisation, trained until it has spent inheritune's total FLOPs",
        (Phase(_start),), needs_reference=False, spends="total-flops",
    ),
}  # fmt: skip
