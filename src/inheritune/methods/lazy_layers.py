"""Lazy layers as a start: the reference's last blocks, its middle ones, and those measured as lazy (paper, section 4 and Table 4)."""

from dataclasses import replace

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import inherit


def _from(first: int, given: Given) -> PreTrainedModel:
    return inherit(given.reference, list(range(first, first + given.depth)), seed=given.seed)


def _last(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _from(given.whole - given.depth, given)


def _middle(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _from((given.whole - given.depth) // 2, given)


def _laziest(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    """Inherit the blocks that the criterion `lazy` would leave out first."""
    others = replace(given, depth=given.whole - given.depth)
    kept, given.spent = others.chosen("lazy"), others.spent
    return inherit(given.reference, [block for block in range(given.whole) if block not in kept], seed=given.seed)


METHODS = {
    "last-blocks": Method("the last blocks, those that are lazy in the paper's models", (Phase(_last),)),
    "lazy-blocks": Method("the blocks of the lowest measured rank, wherever they lie", (Phase(_laziest),)),
    "middle-blocks": Method("the middle blocks", (Phase(_middle),)),
}
