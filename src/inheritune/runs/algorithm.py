"""THE ALGORITHM: inherit, train, compare, grow, until matched (the paper's Algorithm 1, with a stopping rule).

It carries out what `policy` decides and writes down each action; it knows no devices, files or arguments.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from inheritune.choosing.choice import Ordering
from inheritune.report.profile import Profile
from inheritune.runs.actions import Action, Finished, Grow, History, Inherit, Plan, Seen, Stop, Train
from inheritune.runs.policy import next_action

Ask = Callable[[tuple[Seen, ...]], Action]


class Lab(Protocol):
    """What the algorithm needs done. Each step can be called again after a stop, and then returns what it returned before."""

    def diagnose(self) -> Profile:
        """Measure every layer and head of the reference."""

    def choose(self, profile: Profile) -> Ordering:
        """Order the reference's blocks by what they are worth."""

    def plan(self, choice: Ordering) -> Plan:
        """Depths and limits, and what the choice's cuts lose before any training."""

    def inherit(self, round_: int, choice: Ordering, depth: int) -> None:
        """Cut the first target out of the reference, with everything outside the blocks, and prove it."""

    def grow(self, round_: int, choice: Ordering, depth: int) -> None:
        """Add the reference's next blocks to the target as it is trained so far, and prove it."""

    def train(self, round_: int, steps: int, ask: Ask) -> None:
        """Train the target for a round of `steps`. At each evaluation `ask` decides: go on, decay, or end the round."""

    def compare(self, round_: int) -> Finished:
        """Compare the target with the reference on the same validation documents."""

    def note(self, round_: int, action: Action) -> None:
        """Write an action down."""


def carry_out(lab: Lab) -> tuple[Stop, History]:
    """Run the algorithm to its end. Returns why it stopped, and every round that led there."""
    profile = lab.diagnose()
    choice = lab.choose(profile)
    plan = lab.plan(choice)
    history = History()
    while True:
        action, round_ = next_action(history, plan), len(history.rounds) + 1
        lab.note(round_, action)
        match action:
            case Inherit(depth):
                lab.inherit(round_, choice, depth)
                history = replace(history, standing=depth, waiting=True)
            case Grow(depth):
                lab.grow(round_, choice, depth)
                history = replace(history, standing=depth, waiting=True)
            case Train(steps):
                lab.train(round_, steps, _asking(history, plan))
                history = replace(history, waiting=False, rounds=(*history.rounds, lab.compare(round_)))
            case Stop():
                return action, history


def _asking(history: History, plan: Plan) -> Ask:
    """Return a function that asks the policy about the round in progress, given the round's evaluations so far."""
    return lambda seen: next_action(replace(history, seen=seen), plan)
