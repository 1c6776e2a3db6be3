"""Depth pruning with continued training: by block influence (ShortGPT), by angular distance (Gromov et al.), and healed."""

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import inherit


def _influence(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return inherit(given.reference, given.chosen("influence"), seed=given.seed)


def _angular(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return inherit(given.reference, given.chosen("angular"), seed=given.seed)


def _healed(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    blocks = given.chosen("angular")
    return given.heal(inherit(given.reference, blocks, seed=given.seed), blocks)


METHODS = {
    "influence": Method("the blocks of least influence left out (ShortGPT)", (Phase(_influence),)),
    "angular": Method("one run of least angular distance left out (Gromov et al.)", (Phase(_angular),)),
    "healing": Method("the same run, the cut repaired in closed form (as ReplaceMe)", (Phase(_healed),)),
}
