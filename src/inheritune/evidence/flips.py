"""Right and wrong answers of two models to the same questions: how many only one of them has right, and a test of that split."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

_HALVINGS = 50


class Flips(NamedTuple):
    """Numbers of answers that only one of two models has right: `lost` the reference alone, `won` the model alone.

    `chance` is the probability of so uneven a split if both were equally able (McNemar's exact test, two-sided). `low` and `high`
    are the interval of the share of these answers that was lost (exact: Clopper and Pearson's interval).
    """

    lost: int
    won: int
    chance: float
    low: float
    high: float


def flips(ours: Sequence[float], theirs: Sequence[float], confidence: float) -> Flips:
    """Compare the model's answers, right (1) or wrong (0), with the reference's; `confidence` is that of the interval."""
    lost, won = (sum(a < b for a, b in zip(*pair, strict=True)) for pair in ((ours, theirs), (theirs, ours)))
    chance = min(1.0, 2 * _at_most(min(lost, won), lost + won, 0.5))
    left = (1 - confidence) / 2
    low = 0.0 if lost == 0 else _where(lambda share: 1 - _at_most(lost - 1, lost + won, share) < left)
    high = 1.0 if won == 0 else _where(lambda share: _at_most(lost, lost + won, share) > left)
    return Flips(lost, won, chance, low, high)


def _at_most(count: int, of: int, share: float) -> float:
    """The binomial probability of at most `count` successes in `of` trials, each with probability `share`."""
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
    """The share, from 0 to 1, up to which `below` holds, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) else (low, middle)
    return low
