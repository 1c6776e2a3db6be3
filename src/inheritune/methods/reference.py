"""The control that every claim needs: the reference itself, trained on for the same tokens."""

import copy

from transformers import PreTrainedModel

from inheritune.methods.method import Given, Method, Phase


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    return copy.deepcopy(given.reference)


METHODS = {"reference": Method("the reference trained on", (Phase(_start),))}
