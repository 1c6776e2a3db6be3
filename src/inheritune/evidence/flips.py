"""Answers to the same questions, right or wrong, of two models: how many one alone has right, and how sure so uneven a split is."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

_HALVINGS = 50


class Flips(NamedTuple):
    """`lost` the reference alone has right, `won` the model alone.

    `chance` is that of so uneven a split if both were as able (McNemar's exact test, two-sided). Of the answers that only one
    has right, the share that was lost lies between `low` and `high` (exact: Clopper and Pearson's interval).
    """

    lost: int
    won: int
    chance: float
    low: float
    high: float


def flips(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> Flips:
    """Of answers that are right (1) or wrong (0), the model's and the reference's."""
    lost, won = (sum(a < b for a, b in zip(*pair, strict=True)) for pair in ((ours, theirs), (theirs, ours)))
    chance = min(1.0, 2 * _at_most(min(lost, won), lost + won, 0.5))
    left = (1 - confidence) / 2
    low = 0.0 if lost == 0 else _where(lambda share: 1 - _at_most(lost - 1, lost + won, share) < left)
    high = 1.0 if won == 0 else _where(lambda share: _at_most(lost, lost + won, share) > left)
    return Flips(lost, won, chance, low, high)


def _at_most(count: int, of: int, share: float) -> float:
    """The chance of at most `count` of so many, each with the chance `share`."""
    logs = (
        math.lgamma(of + 1)
        - math.lgamma(k + 1)
        - math.lgamma(of - k + 1)
        + k * math.log(share)
        + (of - k) * math.log1p(-share)
        for k in range(count + 1)
    )
    return math.fsum(map(math.exp, logs))


def _where(below: Callable[[float], bool]) -> float:
    """The share up to which `below` holds."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low
