# ruff: noqa: RUF001  (the minus sign of people)
"""What a run's end says of its plan: what was forecast of the first round, and on which side of it the gap came."""

from typing import Any

import pytest
from made_up_run import result_data

from inheritune.records.result import Result
from inheritune.report.plan_words import held_in_words

PLANNED = {"planned_seconds": 60.0, "seconds": 66.0, "planned_memory": 1_000_000, "memory": 2_000_000}
HELD = "The plan was 1 min and 1 MB of memory; the run took 1 min 06 s and 2 MB"


def told(expected: tuple[float, float, float] | None = None, tokens: int = 1_228_800, **changes: Any) -> list[str]:
    """Of the made-up run, whose first round of 1,228,800 tokens came to +0.071."""
    forecast = {"expected_gap": expected, "expected_chance": 0.034, "expected_tokens": tokens} if expected else {}
    return list(held_in_words(Result.model_validate(result_data() | {"planned": PLANNED | forecast} | changes)))


@pytest.mark.parametrize(
    ("expected", "beside"),
    [((0.01, 0.02, 0.07), "above"), ((-0.05, 0.05, 0.0711), "within"), ((0.08, 0.1, 0.2), "below")],
)
def test_the_first_round_stands_beside_its_forecast(expected: tuple[float, float, float], beside: str) -> None:
    low, mean, high = (f"{each:+.3f}".replace("-", "−") for each in expected)
    assert told(expected) == [
        HELD,
        f"Before any cut was measured, the plan expected gap {mean} [{low}, {high}] of 16 blocks after a round of 1.23 M tokens, with a chance of 3% to match;"
        f" the gap came to +0.071 [+0.065, +0.077], {beside} the 80% interval",
    ]


def test_a_round_that_ended_early_is_not_held_against_its_forecast() -> None:
    (_, said) = told((0.01, 0.02, 0.03), tokens=2_000_000)
    assert said.endswith("; the round ended after 1.23 M tokens, at +0.071 [+0.065, +0.077]") and "interval" not in said


def test_no_chance_is_told_where_no_match_is_claimed() -> None:
    (_, said) = told((0.01, 0.02, 0.03), outcome="fitted")
    assert "expected gap +0.020 [+0.010, +0.030] of 16 blocks after a round of 1.23 M tokens; the gap came to" in said


def test_an_older_plan_had_no_forecast_and_no_plan_says_nothing() -> None:
    assert told() == [HELD]
    assert told(planned=None) == []
