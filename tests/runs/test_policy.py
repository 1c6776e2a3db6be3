"""Every branch of the policy on written-down histories, and that it always ends."""

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inheritune.evidence.forecast import forecast
from inheritune.evidence.gap import Gap, Verdict
from inheritune.evidence.left import ExpectedGap
from inheritune.runs.actions import Decay, Finished, GoOn, Grow, History, Inherit, Plan, Seen, Stop, Train
from inheritune.runs.policy import Ours, next_action, starting_depth

PLAN = Plan(start=4, add=2, max_depth=7, margin=0.01, round_steps=10, batch_tokens=100, max_rounds=5)
PLAN = replace(PLAN, step_flops=dict.fromkeys(range(4, 8), 1e8))
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


LEFT = {
    4: ExpectedGap(0.3, 0.06, 0.02),
    5: ExpectedGap(0.12, 0.02, 0.012),
    6: ExpectedGap(0.05, 0.0105, 0.011),
    7: ExpectedGap(0.02, 0.004, 0.01),
}


def test_starts_at_the_smallest_depth_that_has_a_fair_chance() -> None:
    """Chances of a gap below 0.01: 0.6%, 20%, 48% and 73%."""
    assert starting_depth(LEFT, 8, 0.01) == 6
    assert starting_depth(LEFT, 5, 0.01) == 5, "the deepest allowed, where none has a fair chance"
    said = next_action(History(), replace(OURS, start=6, left=LEFT)).reason
    assert said.startswith("starting with 6 blocks: the cut loses 0.050 nats untrained, of which 0.011 ± 0.011")


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
    """The literal loop trains whole rounds alone."""
    action = next_action(standing(round_(4, "worse")), replace(PLAN, **limit))
    assert isinstance(action, Stop) and action.outcome == "budget_spent" and said in action.reason


@pytest.mark.parametrize("limit", [{"max_tokens": 2000}, {"max_flops": 2e9}, {"max_seconds": 10.1}, {"max_rounds": 2}])
def test_a_round_that_just_fits_is_allowed(limit: dict) -> None:
    assert isinstance(next_action(standing(round_(4, "worse")), replace(PLAN, **limit)), Grow)


@pytest.mark.parametrize("limit", [{"max_tokens": 1450}, {"max_flops": 1.45e9}])
def test_last_round_is_as_long_as_the_limit_leaves(limit: dict) -> None:
    action = next_action(standing(round_(4, "worse"), waiting=True), replace(OURS, **limit))
    assert isinstance(action, Train) and action.steps == 450 and "all that the limit of" in action.reason


def test_without_room_for_any_training_the_cut_itself_is_compared() -> None:
    action = next_action(standing(waiting=True), replace(OURS, max_flops=1.0))
    assert isinstance(action, Train) and action.steps == 0
    after = next_action(standing(round_(4, "worse")), replace(OURS, max_flops=1.0))
    assert isinstance(after, Stop) and after.outcome == "budget_spent"


def falling(step: int, end: int) -> float:
    return 1 - step / end


OURS = replace(PLAN, literal=False, round_steps=1000, batch_tokens=1, step_flops=dict.fromkeys(range(4, 8), 1e6))
LONG = replace(OURS, rate=falling, warmup_steps=20)


def within(gaps: list[float], step: int = 100, reach: float = 0.004, depth: int = 4, **extra: float) -> History:
    """A round that is going on, evaluated each `step` steps of 1,000."""
    seen = [
        Seen((n + 1) * step, 1000, Gap(g, g - reach, g + reach, "cannot tell"), 1.0 * n) for n, g in enumerate(gaps)
    ]
    return History(depth, True, (), tuple(seen))


DOOMED = [0.30 - 0.005 * n for n in range(7)]
FINE = [0.060 - 0.008 * n for n in range(7)]


def test_a_doomed_round_grows_at_once_and_says_what_it_expects() -> None:
    action = next_action(within(DOOMED), LONG)
    assert isinstance(action, Grow) and action.depth == 6
    assert re.fullmatch(
        r"4 blocks: forecast gap \+0\.\d{3} ± 0\.\d{3} after the round, so growing to 6 now", action.reason
    )


def test_a_promising_round_goes_on() -> None:
    assert isinstance(next_action(within(FINE), LONG), GoOn)


def test_one_evaluation_is_too_few_and_a_literal_round_is_whole() -> None:
    assert isinstance(next_action(within(DOOMED[:1]), LONG), GoOn)
    assert isinstance(next_action(within(DOOMED), replace(LONG, literal=True)), GoOn)


def test_no_round_is_ended_before_three_fifths_of_it_are_seen_nor_in_its_last_tenth() -> None:
    for looks in range(1, 6):
        assert next_action(within(DOOMED[:looks]), LONG) == GoOn("")
    assert isinstance(next_action(within(DOOMED[:6]), LONG), Grow)
    longer = [0.30 - 0.005 * n for n in range(10)]
    assert isinstance(next_action(within(longer[:9]), LONG), Grow)
    assert next_action(within([0.3] * 19, step=50), LONG) == GoOn("")


def test_doomed_at_the_deepest_allowed_is_said_early() -> None:
    action = next_action(within(DOOMED, depth=7), LONG)
    assert isinstance(action, Stop) and action.outcome == "not_matched" and "deepest" in action.reason


def test_grows_to_the_depth_that_is_likely_to_match() -> None:
    """A gap of 0.02 where 0.02 was expected: the others are expected as they were, to 27% and 0.004.

    Below 0.01 with a chance of 46% (6 blocks: 0.0105 ± 0.0049), and of 92% (7 blocks: 0.004 ± 0.0041).
    """
    plan = replace(OURS, add=1, max_depth=9, left=LEFT | {8: ExpectedGap(0.01, 0.002, 0.01)})
    assert Ours().deeper(5, 0.02, plan) == 7
    assert Ours().deeper(5, 0.01, plan) == 6, "half of what was expected: 0.00525 ± 0.0042, a chance of 87%"
    assert Ours().deeper(5, 0.2, plan) == 9, "none is likely, so the deepest"
    assert Ours().deeper(5, 0.02, replace(plan, left={})) == 6, "nothing was measured"


def test_does_not_grow_where_no_round_is_left_for_it() -> None:
    action = next_action(within(DOOMED), replace(LONG, max_rounds=1))
    assert isinstance(action, GoOn) and "so this round is finished" in action.reason


def test_rate_falls_as_soon_as_that_is_forecast_to_match() -> None:
    def stable(step: int, end: int) -> float:
        return min(1.0, (end - step) / 200)

    plan = replace(OURS, rate=stable, decay_steps=200)
    action = next_action(within([0.02 - 0.004 * n for n in range(7)], reach=0.002), plan)
    assert isinstance(action, Decay) and action.steps == 200 and "so it falls" in action.reason
    assert isinstance(next_action(within(FINE[:3]), plan), GoOn)
    late = within([0.02 - 0.004 * n for n in range(9)], reach=0.002)
    assert isinstance(next_action(late, plan), GoOn), "it falls already"


def test_a_round_that_was_cut_short_is_decided_as_it_was() -> None:
    """Replayed from the finished round's own evaluations, so that a run that is continued does what it did."""
    standing_ = within(DOOMED)
    done = Finished(4, standing_.seen[-1].gap, 700, 7e8, 7.0, standing_.seen)
    assert next_action(History(4, False, (done,)), LONG) == next_action(standing_, LONG)


def test_a_round_ends_before_the_seconds_do() -> None:
    action = next_action(within(FINE), replace(LONG, max_seconds=6.5))
    assert isinstance(action, Stop) and action.outcome == "budget_spent"
    assert isinstance(next_action(within(FINE), replace(LONG, max_seconds=7.5)), GoOn)


def test_earlier_rounds_seconds_count() -> None:
    """10 s before, 6 s at the seventh look and a seventh of that to the next: 16.9 s."""
    standing_ = replace(within(FINE), rounds=(round_(4, "worse"),))
    assert isinstance(next_action(standing_, replace(LONG, max_seconds=16.8)), Stop)
    assert isinstance(next_action(standing_, replace(LONG, max_seconds=17)), GoOn)


def test_a_round_is_left_by_what_the_interval_could_still_match() -> None:
    """Between the forecast's lower end and the margin lies half of the gap's own reach: the end could not be told."""
    seen = within(DOOMED).seen
    low = forecast(
        [look.step for look in seen],
        [look.gap.mean for look in seen],
        1000,
        rate=lambda step: 1 - step / 1000,
        confidence=0.995,
    ).low
    assert isinstance(next_action(within(DOOMED, reach=0.004), replace(LONG, margin=low + 0.002)), Grow)
    assert isinstance(next_action(within(DOOMED, reach=0.001), replace(LONG, margin=low + 0.002)), GoOn)
    reads_on = replace(LONG, margin=low + 0.003, reach_left=0.5)
    assert isinstance(next_action(within(DOOMED, reach=0.004), reads_on), GoOn), "half of the reach goes by reading on"
    assert isinstance(next_action(within(DOOMED, reach=0.004), replace(reads_on, reach_left=1.0)), Grow)


def test_the_rate_falls_by_the_forecasts_upper_end() -> None:
    seen, reach = within(FINE).seen, 0.004
    steps, gaps = [look.step for look in seen], [look.gap.mean for look in seen]
    said = forecast(steps, gaps, 900, rate=lambda step: 1 if step <= 700 else 1 - (step - 700) / 200)
    plan = replace(OURS, rate=lambda step, end: 1.0, decay_steps=200)
    between = replace(plan, margin=(said.mean + said.high) / 2 + reach)
    assert not isinstance(next_action(within(FINE), between), Decay)
    assert isinstance(next_action(within(FINE), replace(plan, margin=said.high + reach + 1e-6)), Decay)


def test_a_whole_round_before_is_what_the_forecast_leans_on() -> None:
    """Only one on the same schedule, to its end."""
    whole, cut = within([0.4 - 0.03 * n for n in range(10)]).seen, within([0.4] * 6).seen
    steps, gaps = [look.step for look in within(DOOMED).seen], [look.gap.mean for look in within(DOOMED).seen]
    like = [look.step for look in whole], [look.gap.mean for look in whole]
    rate = {"rate": lambda step: falling(step, 1000), "confidence": 0.995}
    alone, beside = forecast(steps, gaps, 1000, **rate), forecast(steps, gaps, 1000, reference=like, **rate)
    assert str(alone) != str(beside)
    for seen, said in ((whole, beside), (cut, alone)):
        before = (replace(round_(4, "worse"), seen=seen),)
        assert f"forecast gap {said} after" in next_action(replace(within(DOOMED), rounds=before), LONG).reason


def test_a_limit_leaves_no_round_below_twice_its_warm_up() -> None:
    """150 steps are left: more than a tenth of a round, and 100 of warm-up once, but not twice."""
    after = standing(replace(round_(4, "worse"), tokens=850))
    plan = replace(OURS, max_tokens=1000)
    assert isinstance(next_action(after, replace(plan, warmup_steps=100)), Stop)
    assert isinstance(next_action(after, replace(plan, warmup_steps=70)), Grow)


def test_what_the_cut_round_cost_counts_against_the_limit() -> None:
    """700 steps of 1e6 FLOPs are spent: of 7.9e8 less than a tenth of a round is left, of 8.1e8 more."""
    assert isinstance(next_action(within(DOOMED), replace(LONG, max_flops=7.9e8)), GoOn)
    assert isinstance(next_action(within(DOOMED), replace(LONG, max_flops=8.1e8)), Grow)


def test_a_match_counts_though_a_limit_is_reached() -> None:
    action = next_action(standing(round_(4, "matched")), replace(PLAN, max_rounds=1))
    assert action.outcome == "matched"


plans = st.builds(
    Plan,
    start=st.integers(1, 40),
    add=st.integers(1, 8),
    max_depth=st.integers(1, 40),
    margin=st.just(0.01),
    round_steps=st.integers(1, 1000),
    batch_tokens=st.just(10),
    literal=st.booleans(),
    step_flops=st.just(dict.fromkeys(range(1, 41), 1e5)),
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
            cost = (action.steps * plan.batch_tokens, action.steps * 1e5)
            done = Finished(history.standing, GAPS[verdicts[len(depths)]], *cost, 1.0)
            history = History(history.standing, False, (*history.rounds, done))
            depths.append(done.depth)
        else:
            history = replace(history, standing=action.depth, waiting=True)
    assert isinstance(action, Stop)
    assert depths == sorted(set(depths)) and len(depths) <= plan.max_rounds
    assert all(depth <= max(plan.start, plan.max_depth) for depth in depths)
    assert plan.max_tokens is None or sum(done.tokens for done in history.rounds) <= plan.max_tokens
    assert plan.max_flops is None or sum(done.flops for done in history.rounds) <= plan.max_flops
    assert (action.outcome == "matched") == bool(history.rounds and history.rounds[-1].gap.matched)


RECORDED = {
    # peak rate: gaps of a 22-block target of the bundled reference at steps 18, 36, 54, 72 of 74, and at the end
    "2e-3": ([0.0592, 0.0537, 0.0449, 0.0390], 0.0388),
    "1e-3": ([0.0377, 0.0341, 0.0320, 0.0288], 0.0288),
    "4e-4": ([0.0340, 0.0294, 0.0276, 0.0269], 0.0269),
}


def recorded(gaps: list[float]) -> History:
    looks = [Seen(18 * (n + 1), 74, Gap(g, g - 0.0045, g + 0.0045, "worse"), float(n)) for n, g in enumerate(gaps)]
    return History(22, True, (), tuple(looks))


def linear(step: int, end: int) -> float:
    return (step + 1) / 5 if step < 4 else 1 - (step - 4) / (end - 4)


@pytest.mark.parametrize("peak", RECORDED)
def test_replayed_on_recorded_rounds(peak: str) -> None:
    """Real rounds, none of which came to a match: no word in their first three fifths, and then a forecast that held the end."""
    gaps, end = RECORDED[peak]
    plan = Plan(22, 1, 23, 0.01, 74, 4096, 4, literal=False, rate=linear, step_flops={22: 1e9, 23: 1e9}, warmup_steps=4)
    actions = [next_action(recorded(gaps[: n + 1]), plan) for n in range(4)]
    assert actions[0] == actions[1] == GoOn("")
    mean, reach = map(float, re.search(r"gap ([+-][\d.]+) ± ([\d.]+)", actions[2].reason).groups())
    assert abs(mean - end) <= reach + 0.001
    assert actions[3] == GoOn(""), "its last tenth"
