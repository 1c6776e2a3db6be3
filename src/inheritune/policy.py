"""What to do next in a run: pure, without torch, so that it is replayed on recorded histories in microseconds."""

from dataclasses import dataclass
from typing import Literal

from inheritune.evidence.gap import Gap

Outcome = Literal["matched", "not_matched", "budget_spent"]


@dataclass(frozen=True)
class Finished:
    """A round that was trained and compared."""

    depth: int
    gap: Gap
    tokens: int
    flops: float
    seconds: float


@dataclass(frozen=True)
class History:
    """What has happened: the depth of the target that stands (None before the cut), whether it still waits for its round."""

    standing: int | None = None
    waiting: bool = False
    rounds: tuple[Finished, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The recipe's part that decides: depths, what one round costs in tokens, and the limits."""

    start: int
    add: int
    max_depth: int
    margin: float
    round_tokens: int
    max_rounds: int
    max_tokens: int | None = None
    max_flops: float | None = None
    max_seconds: float | None = None


@dataclass(frozen=True)
class Inherit:
    """Cut the first target."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Train:
    """Train the target that stands, for one round, and compare it."""

    reason: str


@dataclass(frozen=True)
class Grow:
    """Make the target deeper by the next blocks of the choice."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Stop:
    """End the run."""

    outcome: Outcome
    reason: str


Action = Inherit | Train | Grow | Stop


def next_action(history: History, plan: Plan) -> Action:
    """The next action, and why, in one line a person understands."""
    if history.standing is None:
        return Inherit(plan.start, f"starting with {plan.start} blocks")
    if history.waiting:
        return _train_or_stop(history, plan)
    last = history.rounds[-1]
    said = f"{last.depth} blocks: gap {last.gap.mean:+.3f} [{last.gap.low:+.3f}, {last.gap.high:+.3f}]"
    if last.gap.matched:
        return Stop("matched", f"{said} lies below the margin {plan.margin:g}, so this is a match")
    if spent := _limit(history, plan):
        return Stop("budget_spent", f"{said} is not below the margin {plan.margin:g}, and {spent}")
    if last.depth >= plan.max_depth:
        return Stop(
            "not_matched",
            f"{said} is not below the margin {plan.margin:g}, and this is the deepest target allowed",
        )
    depth = min(last.depth + plan.add, plan.max_depth)
    return Grow(depth, f"{said} is not below the margin {plan.margin:g}, so growing to {depth}")


def _train_or_stop(history: History, plan: Plan) -> Action:
    if spent := _limit(history, plan):
        return Stop("budget_spent", f"{history.standing} blocks stand untrained, and {spent}")
    return Train(f"training {history.standing} blocks on {plan.round_tokens:,} tokens")


def _limit(history: History, plan: Plan) -> str | None:
    """The limit that one more round of the same size would break."""
    tokens = sum(done.tokens for done in history.rounds) + plan.round_tokens
    flops = sum(done.flops for done in history.rounds) + max((done.flops for done in history.rounds), default=0.0)
    seconds = sum(done.seconds for done in history.rounds)
    if len(history.rounds) >= plan.max_rounds:
        return f"the limit of {plan.max_rounds} rounds is reached"
    if plan.max_tokens is not None and tokens > plan.max_tokens:
        return f"another round would pass the limit of {plan.max_tokens:,} tokens"
    if plan.max_flops is not None and flops > plan.max_flops:
        return f"another round would pass the limit of {plan.max_flops:.3g} FLOPs"
    if plan.max_seconds is not None and seconds >= plan.max_seconds:
        return f"the limit of {plan.max_seconds:g} seconds is reached"
    return None
