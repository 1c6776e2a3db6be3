"""Every branch of the policy on written-down histories, and that it always ends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inheritune.evidence.gap import Gap, Verdict
from inheritune.policy import Finished, Grow, History, Inherit, Plan, Stop, Train, next_action

PLAN = Plan(start=4, add=2, max_depth=7, margin=0.01, round_tokens=1000, max_rounds=5)
GAPS = {
    "surpassed": Gap(-0.02, -0.03, -0.01, "surpassed"),
    "matched": Gap(0.001, -0.002, 0.004, "matched"),
    "worse": Gap(0.2, 0.1, 0.3, "worse"),
    "cannot tell": Gap(0.01, -0.1, 0.12, "cannot tell"),
}


def round_(depth: int, verdict: Verdict) -> Finished:
    return Finished(depth, GAPS[verdict], tokens=1000, flops=1e9, seconds=10.0)


def standing(*rounds: Finished, waiting: bool = False) -> History:
    return History(rounds[-1].depth if rounds else 4, waiting, rounds)


def test_begins_by_inheriting_the_start() -> None:
    assert next_action(History(), PLAN) == Inherit(4, "starting with 4 blocks")


def test_trains_what_waits() -> None:
    assert isinstance(next_action(standing(waiting=True), PLAN), Train)


@pytest.mark.parametrize("verdict", ["surpassed", "matched"])
def test_stops_at_a_match(verdict: Verdict) -> None:
    action = next_action(standing(round_(4, verdict)), PLAN)
    assert isinstance(action, Stop) and action.outcome == "matched"


@pytest.mark.parametrize("verdict", ["worse", "cannot tell"])
def test_grows_where_it_does_not_match(verdict: Verdict) -> None:
    action = next_action(standing(round_(4, verdict)), PLAN)
    assert isinstance(action, Grow) and action.depth == 6
    assert f"{GAPS[verdict].mean:+.3f}" in action.reason


def test_last_growth_stops_at_the_deepest_allowed() -> None:
    assert next_action(standing(round_(6, "worse")), PLAN).depth == 7
    action = next_action(standing(round_(6, "worse"), round_(7, "worse")), PLAN)
    assert isinstance(action, Stop) and action.outcome == "not_matched"


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"max_rounds": 1}, "1 rounds"),
        ({"max_tokens": 1999}, "1,999 tokens"),
        ({"max_flops": 1.9e9}, "1.9e+09 FLOPs"),
        ({"max_seconds": 10.0}, "10 seconds"),
    ],
)
def test_stops_before_the_round_that_would_break_a_limit(limit: dict, said: str) -> None:
    action = next_action(standing(round_(4, "worse")), replace(PLAN, **limit))
    assert isinstance(action, Stop) and action.outcome == "budget_spent" and said in action.reason


@pytest.mark.parametrize("limit", [{"max_tokens": 2000}, {"max_flops": 2e9}, {"max_seconds": 10.1}, {"max_rounds": 2}])
def test_a_round_that_just_fits_is_allowed(limit: dict) -> None:
    assert isinstance(next_action(standing(round_(4, "worse")), replace(PLAN, **limit)), Grow)


def test_a_match_counts_though_a_limit_is_reached() -> None:
    action = next_action(standing(round_(4, "matched")), replace(PLAN, max_rounds=1))
    assert action.outcome == "matched"


plans = st.builds(
    Plan,
    start=st.integers(1, 40),
    add=st.integers(1, 8),
    max_depth=st.integers(1, 40),
    margin=st.just(0.01),
    round_tokens=st.integers(1, 10_000),
    max_rounds=st.integers(1, 50),
    max_tokens=st.none() | st.integers(1, 100_000),
    max_flops=st.none() | st.floats(1, 1e12),
    max_seconds=st.none() | st.floats(0.1, 1e4),
)


@given(plans, st.lists(st.sampled_from(sorted(GAPS)), min_size=60, max_size=60))
def test_always_ends_within_its_limits(plan: Plan, verdicts: list[Verdict]) -> None:
    history, depths = History(), []
    for _ in range(200):
        action = next_action(history, plan)
        if isinstance(action, Stop):
            break
        if isinstance(action, Train):
            done = Finished(history.standing, GAPS[verdicts[len(depths)]], plan.round_tokens, 1e6, 1.0)
            history = History(history.standing, False, (*history.rounds, done))
            depths.append(done.depth)
        else:
            history = replace(history, standing=action.depth, waiting=True)
    assert isinstance(action, Stop)
    assert depths == sorted(set(depths)) and len(depths) <= plan.max_rounds
    assert all(depth <= max(plan.start, plan.max_depth) for depth in depths)
    assert plan.max_tokens is None or sum(done.tokens for done in history.rounds) <= plan.max_tokens
    assert (action.outcome == "matched") == bool(history.rounds and history.rounds[-1].gap.matched)
