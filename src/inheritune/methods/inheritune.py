"""Inheritune as we run it: blocks left out greedily, the cut repaired, half of the loss the reference's own distribution."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import inherit


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    blocks = given.chosen("greedy")
    return given.heal(inherit(given.reference, blocks, seed=given.seed), blocks)


OBJECTIVE = {"cross_entropy": 0.5, "logits": 0.5}  # what the tables of docs/results/ were made with
METHODS = {
    "inheritune": Method(
        "greedy choice, cut repaired, half the loss the reference's logits", (Phase(_start),), objective=OBJECTIVE
    )
}
