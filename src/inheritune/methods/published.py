"""Inheritune to the letter: the first blocks, with embeddings, head and final norm (paper, Algorithm 1); and as released."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import inherit


def _first(given: Given, before: PreTrainedModel | None, outside: str = "all") -> PreTrainedModel:
    return inherit(given.reference, list(range(given.depth)), outside=outside, seed=given.seed)


def _as_released(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return _first(given, before, "as-released")


METHODS = {
    "published": Method("the first blocks and all outside them (Algorithm 1)", (Phase(_first),)),
    "as-released": Method("the first blocks and the head alone (the public code)", (Phase(_as_released),)),
}
