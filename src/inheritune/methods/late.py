"""Late expansion: one block is trained for most of the tokens, then the target of full depth (after arXiv 2511.04981)."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import fresh, grow


def _one(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return fresh(given.reference, 1, given.seed)


def _deep(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    """Keep the trained block at the bottom, and add blocks of random weights above it."""
    assert before is not None
    depth = list(range(given.depth))
    return grow(before, fresh(given.reference, given.depth, given.seed), held=[0], wanted=depth, seed=given.seed)


METHODS = {
    "late-expansion": Method(
        "one block for 0.8 of the tokens at a constant rate, then all, the new ones random",
        (Phase(_one, 0.8, "constant"), Phase(_deep, 0.2)), needs_reference=False,
    )
}  # fmt: skip
