"""Criteria for which of the reference's blocks a target inherits, one per file.

A criterion is a function `order(reference, tokens_BT, profile, search) -> Ordering`; a new one is a file and a line here.
"""

from inheritune.choosing import angular, first, greedy, influence, lazy
from inheritune.choosing.choice import Criterion, Ordering, Search

CRITERIA: dict[str, Criterion] = {
    "first": first.order,
    "lazy": lazy.order,
    "influence": influence.order,
    "angular": angular.order,
    "greedy": greedy.order,
}

__all__ = ["CRITERIA", "Ordering", "Search"]
