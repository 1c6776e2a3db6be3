"""Lazy layers as a start: the last blocks of the reference, and those in its middle (paper, section 4 and Table 4)."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import inherit


def _from(first: int, given: Given) -> PreTrainedModel:
    return inherit(given.reference, list(range(first, first + given.depth)), seed=given.seed)


def _last(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _from(given.whole - given.depth, given)


def _middle(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _from((given.whole - given.depth) // 2, given)


METHODS = {
    "last-blocks": Method("the last blocks, those that are lazy in the paper's models", (Phase(_last),)),
    "middle-blocks": Method("the middle blocks", (Phase(_middle),)),
}
