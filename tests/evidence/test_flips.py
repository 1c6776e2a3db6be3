"""Answers that one of two models alone has right, against the binomial distribution by hand."""

import pytest

from inheritune.evaluation.tasks import Scored, differences
from inheritune.evidence.flips import flips


def scored(answers: list[float]) -> Scored:
    return Scored([], {("task", "acc"): dict(enumerate(answers))})


@pytest.mark.parametrize(
    ("ours", "theirs", "wanted"),
    [
        ([0, 0, 0, 1, 1], [1, 1, 1, 1, 1], (3, 0, 2 * 1 / 8)),
        ([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 1], (4, 1, 2 * (1 + 5) / 32)),
        ([1, 0, 1], [0, 1, 1], (1, 1, 1.0)),
        ([1, 0], [1, 0], (0, 0, 1.0)),
        ([0.5, 0.2], [0.4, 0.1], (None, None, None)),
    ],
)
def test_flips_and_mcnemars_exact_chance(ours: list[float], theirs: list[float], wanted: tuple[object, ...]) -> None:
    (found,) = differences(scored(ours), scored(theirs), 0.95)
    assert (found.lost, found.won) == wanted[:2] and found.chance == (wanted[2] and pytest.approx(wanted[2]))
    assert found.mean == pytest.approx(sum(ours) / len(ours) - sum(theirs) / len(theirs))


@pytest.mark.parametrize(
    ("lost", "won", "low", "high"),
    [(3, 0, 0.025 ** (1 / 3), 1.0), (0, 2, 0.0, 1 - 0.025**0.5), (0, 0, 0.0, 1.0), (8, 2, 0.4439, 0.9748), (40, 60, 0.3033, 0.5028)],
)  # fmt: skip
def test_the_share_lost_has_its_exact_interval(lost: int, won: int, low: float, high: float) -> None:
    """All of n: the n-th root of 2.5%. The others are of Clopper and Pearson's own kind of table (8 and 40 of 10 and 100)."""
    found = flips([0.0] * lost + [1.0] * won, [1.0] * lost + [0.0] * won, 0.95)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)
