"""Hybrid stacking: the first blocks of the reference stand in both halves of the target (paper, Table 2)."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.methods.stacking import half
from inheritune.surgery.in_memory import inherit


def _start(given: Given, before: PreTrainedModel | None, outside: str = "all") -> PreTrainedModel:
    blocks = [place % half(given.depth) for place in range(given.depth)]
    return inherit(given.reference, blocks, outside=outside, seed=given.seed)


def _as_released(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _start(given, before, "as-released")


METHODS = {
    "hybrid": Method("the reference's first blocks in both halves, all outside inherited", (Phase(_start),)),
    "hybrid-as-released": Method("the same with the head alone inherited", (Phase(_as_released),)),
}
