"""Stacking: a model of half the depth is trained, copied onto itself, and trained again; no reference is needed."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import fresh, inherit


def half(depth: int) -> int:
    """Half of a depth, rounded up."""
    return (depth + 1) // 2


def _half(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return fresh(given.reference, half(given.depth), given.seed)


def _stacked(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    assert before is not None
    return inherit(before, [place % half(given.depth) for place in range(given.depth)], seed=given.seed)


METHODS = {
    "stacking": Method(
        "half depth for half the tokens, copied on itself for the other half",
        (Phase(_half, 0.5), Phase(_stacked, 0.5)), needs_reference=False,
    ),
    "stacking-twice": Method(
        "half depth for all the tokens, copied on itself for as many again (the paper's)",
        (Phase(_half), Phase(_stacked)), needs_reference=False,
    ),
}  # fmt: skip
