"""Distillation from the reference: on its logits or DistilBERT-style, each from a random and from an inherited start.

DistilBERT-style is cross-entropy, logits and the cosine of hidden states; its inherited start is every other block.
"""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import fresh, inherit

LOGITS = {"cross_entropy": 0.6, "logits": 0.4}
# DistilBERT's own weights, 2 : 5 : 1, made to sum to one, and its temperature.
DISTILBERT = {"cross_entropy": 0.25, "logits": 0.625, "temperature": 2.0, "hidden": 0.125, "hidden_loss": "cosine"}


def _random(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return fresh(given.reference, given.depth, given.seed)


def _first(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return inherit(given.reference, list(range(given.depth)), seed=given.seed)


def every_other(depth: int, whole: int) -> list[int]:
    """Every other block and, where these are too few, the last blocks before the final two on top of them (paper, section D)."""
    alternate = list(range(0, whole, 2))[:depth]
    missing = depth - len(alternate)
    return [*alternate, *range(whole - 2 - missing, whole - 2)]


def _spread(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return inherit(given.reference, every_other(given.depth, given.whole), seed=given.seed)


METHODS = {
    "logits-random": Method("random start, 0.4 of the loss the teacher's logits", (Phase(_random),), objective=LOGITS),
    "logits-inherited": Method("the first blocks, the same loss", (Phase(_first),), objective=LOGITS),
    "distilbert-random": Method("random start, DistilBERT-style loss", (Phase(_random),), objective=DISTILBERT),
    "distilbert": Method("every other block, DistilBERT-style loss", (Phase(_spread),), objective=DISTILBERT),
}
