"""Inheritune as we run it: blocks left out greedily, the cut repaired, everything outside the blocks inherited."""

from transformers import PreTrainedModel

from inheritune.blocks.modules import inherit
from inheritune.methods.method import Given, Method, Phase


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    blocks = given.chosen("greedy")
    return given.heal(inherit(given.reference, blocks, seed=given.seed), blocks)


METHODS = {"inheritune": Method("greedy choice, cut repaired, all outside inherited", (Phase(_start),))}
