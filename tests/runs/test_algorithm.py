"""The algorithm against a lab that only writes down what it is asked for."""

from typing import Any

from inheritune.choosing.choice import Ordering
from inheritune.evidence.gap import Gap
from inheritune.runs.actions import Action, Finished, GoOn, Plan, Seen, Stop
from inheritune.runs.algorithm import Ask, carry_out

WORSE, MATCHED = Gap(0.2, 0.1, 0.3, "worse"), Gap(0.0, -0.001, 0.001, "matched")
CHOICE = Ordering("made up", "", 6, (4, 3, 2, 5, 1, 0))


class Recorder:
    """Each round gives the next of the gaps."""

    def __init__(self, gaps: list[Gap], **limits: Any):
        self.gaps, self.calls, self.depth, self.mid = gaps, [], 0, []
        self.limits = {"max_rounds": 9, **limits}

    def diagnose(self) -> str:
        self.calls.append("diagnose")
        return "profile"

    def choose(self, profile: str) -> Ordering:
        self.calls.append(f"choose {profile}")
        return CHOICE

    def plan(self, choice: Ordering) -> Plan:
        self.calls.append(f"plan {choice.method}")
        return Plan(2, 2, 5, 0.01, 10, 10, **self.limits)

    def inherit(self, round_: int, choice: Ordering, depth: int) -> None:
        self.depth = depth
        self.calls.append(f"inherit {round_} {choice.blocks(depth)}")

    def grow(self, round_: int, choice: Ordering, depth: int) -> None:
        self.depth = depth
        self.calls.append(f"grow {round_} {choice.blocks(depth)}")

    def train(self, round_: int, steps: int, ask: Ask) -> None:
        self.calls.append(f"train {round_}")
        self.answers = [ask(tuple(self.mid[: n + 1])) for n in range(len(self.mid))]

    def compare(self, round_: int) -> Finished:
        self.calls.append(f"compare {round_}")
        return Finished(self.depth, self.gaps[round_ - 1], 100, 1.0, 1.0)

    def note(self, round_: int, action: Action) -> None:
        self.calls.append(f"note {type(action).__name__}")


BEGINNING = ["diagnose", "choose profile", "plan made up", "note Inherit", "inherit 1 [0, 1]"]
FIRST_ROUND = ["note Train", "train 1", "compare 1"]


def test_a_match_at_once() -> None:
    lab = Recorder([MATCHED])
    stop, history = carry_out(lab)
    assert lab.calls == [*BEGINNING, *FIRST_ROUND, "note Stop"]
    assert stop.outcome == "matched" and [done.depth for done in history.rounds] == [2]


def test_grows_by_the_choice_until_it_matches() -> None:
    lab = Recorder([WORSE, WORSE, MATCHED])
    stop, history = carry_out(lab)
    second = ["note Grow", "grow 2 [0, 1, 2, 5]", "note Train", "train 2", "compare 2"]
    third = ["note Grow", "grow 3 [0, 1, 2, 3, 5]", "note Train", "train 3", "compare 3"]
    assert lab.calls == [*BEGINNING, *FIRST_ROUND, *second, *third, "note Stop"]
    assert stop.outcome == "matched" and [done.depth for done in history.rounds] == [2, 4, 5]


def test_ends_without_a_match() -> None:
    stop, history = carry_out(Recorder([WORSE, WORSE, WORSE]))
    assert stop.outcome == "not_matched" and len(history.rounds) == 3


def test_ends_at_a_limit() -> None:
    stop, history = carry_out(Recorder([WORSE, WORSE, WORSE], max_rounds=2))
    assert stop.outcome == "budget_spent" and len(history.rounds) == 2


def test_asks_the_policy_within_a_round() -> None:
    """Three evaluations of 5 seconds each: the fourth would pass 18 seconds, and the policy is told what was seen."""
    lab = Recorder([MATCHED], max_seconds=18.0)
    lab.mid = [Seen(step, 10, WORSE, 5.0 * step) for step in (1, 2, 3)]
    carry_out(lab)
    assert [type(answer) for answer in lab.answers] == [GoOn, GoOn, Stop]
