"""Answers that one of two models alone has right, against the binomial distribution by hand."""

import pytest

from inheritune.evaluation.tasks import Scored, differences


def scored(answers: list[float]) -> Scored:
    return Scored([], {("task", "acc"): dict(enumerate(answers))})


@pytest.mark.parametrize(
    ("ours", "theirs", "flips"),
    [
        ([0, 0, 0, 1, 1], [1, 1, 1, 1, 1], (3, 0, 2 * 1 / 8)),
        ([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 0, 1], (4, 1, 2 * (1 + 5) / 32)),
        ([1, 0, 1], [0, 1, 1], (1, 1, 1.0)),
        ([1, 0], [1, 0], (0, 0, 1.0)),
        ([0.5, 0.2], [0.4, 0.1], (None, None, None)),
    ],
)
def test_flips_and_mcnemars_exact_chance(ours: list[float], theirs: list[float], flips: tuple[object, ...]) -> None:
    (found,) = differences(scored(ours), scored(theirs), 0.95)
    assert (found.lost, found.won, found.chance) == flips
    assert found.mean == pytest.approx(sum(ours) / len(ours) - sum(theirs) / len(theirs))
