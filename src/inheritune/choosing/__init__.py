"""Which of the reference's blocks a target inherits, one criterion a file.

A criterion is a function `order(reference, tokens_BT, profile) -> Choice`; a new one is a file and a line here.
"""

from collections.abc import Callable

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing import angular, first, greedy, influence, lazy
from inheritune.choosing.choice import Choice
from inheritune.records.profile import Profile

CRITERIA: dict[str, Callable[[PreTrainedModel, Tensor, Profile], Choice]] = {
    "first": first.order,
    "lazy": lazy.order,
    "influence": influence.order,
    "angular": angular.order,
    "greedy": greedy.order,
}

__all__ = ["CRITERIA", "Choice"]
