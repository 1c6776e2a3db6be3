"""What to do next in a run: pure, without torch, so that it is replayed on recorded histories in microseconds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from inheritune.evidence.forecast import Forecast, forecast
from inheritune.evidence.gap import Gap

Outcome = Literal["matched", "not_matched", "budget_spent"]

# A round is not ended before half of it is seen, and then by an interval that errs in 1 of 100 looks (docs/results/forecast.md).
_SEEN_AT_LEAST, _SURE = 0.5, 0.98
# How much of a difference in loss between two untrained cuts is left after a round: from trials (docs/growth.md).
_LEFT_AFTER_TRAINING = 0.1
_FEWEST_LOOKS = 2
_LEAST_SHARE = 0.1  # of a round: what a limit leaves below that is not worth a warm-up


@dataclass(frozen=True)
class Seen:
    """An evaluation within a round: at which of the round's steps, and where the round as it is scheduled ends."""

    step: int
    end: int
    gap: Gap
    seconds: float


@dataclass(frozen=True)
class Finished:
    """A round that was trained and compared; one that was cut short ends before the last `end` in `seen`."""

    depth: int
    gap: Gap
    tokens: int
    flops: float
    seconds: float
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class History:
    """What has happened: the depth that stands (None before the cut), whether its round is to come, and what it has seen."""

    standing: int | None = None
    waiting: bool = False
    rounds: tuple[Finished, ...] = ()
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The recipe's part that decides: depths, what a round is, and the limits.

    A round has `round_steps` of `batch_tokens` each; where the rate is constant before its decay, `decay_steps` of them
    (else 0), the decay may begin sooner. `rate(step, end)` is the rate in a round that ends at `end`. By depth: `step_flops`,
    and `untrained`, the loss of the cut before any training, the whole reference's last. With `literal`, rounds are whole and growth goes by `add`
    blocks, as in the paper.
    """

    start: int
    add: int
    max_depth: int
    margin: float
    round_steps: int
    batch_tokens: int
    max_rounds: int
    max_tokens: int | None = None
    max_flops: float | None = None
    max_seconds: float | None = None
    literal: bool = True
    warmup_steps: int = 0
    decay_steps: int = 0
    rate: Callable[[int, int], float] = lambda step, end: 1.0
    step_flops: Mapping[int, float] = field(default_factory=dict)
    untrained: Mapping[int, float] = field(default_factory=dict)

    @property
    def looks(self) -> int:
        """The most rounds that depths between `start` and `max_depth` allow, each a look that may call a match."""
        return 1 + -(-max(0, self.max_depth - self.start) // self.add)


@dataclass(frozen=True)
class Inherit:
    """Cut the first target."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Train:
    """Train the target that stands for a round of `steps`, and compare it."""

    steps: int
    reason: str


@dataclass(frozen=True)
class GoOn:
    """Within a round: train on; without a reason where nothing was weighed."""

    reason: str


@dataclass(frozen=True)
class Decay:
    """Within a round: let the learning rate fall to its end now, over `steps`."""

    steps: int
    reason: str


@dataclass(frozen=True)
class Grow:
    """Make the target deeper by the next blocks of the choice; within a round: end it first."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Stop:
    """End the run; within a round: end that first."""

    outcome: Outcome
    reason: str


Action = Inherit | Train | GoOn | Decay | Grow | Stop


def next_action(history: History, plan: Plan) -> Action:
    """The next action, and why, in one line a person understands."""
    if history.standing is None:
        return Inherit(plan.start, _starting(plan))
    if history.waiting:
        return _within(history, plan) if history.seen else _round(history, plan)
    last = history.rounds[-1]
    if last.gap.matched:
        return Stop("matched", f"{_said(last)} lies below the margin {plan.margin:g}, so this is a match")
    if last.seen and last.seen[-1].step < last.seen[-1].end:
        before = History(last.depth, True, history.rounds[:-1], last.seen)
        if isinstance(action := _within(before, plan), Grow | Stop):
            return action
    return _after(history, plan, last)


def starting_depth(untrained: Mapping[int, float], deepest: int, margin: float) -> int:
    """The smallest depth whose cut is expected to lie within the margin after a round, else the deepest allowed."""
    return next(
        (d for d in sorted(untrained) if d < deepest and _LEFT_AFTER_TRAINING * _lost(untrained, d) < margin), deepest
    )


def _lost(untrained: Mapping[int, float], depth: int) -> float:
    """What a cut loses before any training."""
    return untrained[depth] - untrained[max(untrained)]


def _starting(plan: Plan) -> str:
    said = f"starting with {plan.start} blocks"
    if plan.start not in plan.untrained:
        return said
    lost = _lost(plan.untrained, plan.start)
    left = _LEFT_AFTER_TRAINING * lost
    return f"{said}: the cut loses {lost:.3f} nats untrained, of which {left:.3f} is expected to be left after a round"


def _after(history: History, plan: Plan, last: Finished) -> Action:
    """After a round that did not match."""
    said = f"{_said(last)} is not below the margin {plan.margin:g}"
    if last.depth >= plan.max_depth:
        return Stop("not_matched", f"{said}, and this is the deepest target allowed")
    depth = _deeper(last.depth, last.gap.mean, plan)
    if spent := _limit(history, plan, depth):
        return Stop("budget_spent", f"{said}, and {spent}")
    return Grow(depth, f"{said}, so growing to {depth}")


def _round(history: History, plan: Plan) -> Action:
    """Before a round: as long as the limits allow, and none at all where only a comparison is left."""
    depth = history.standing or plan.start
    steps, limit = _room(history, plan, depth)
    if spent := _limit(history, plan, depth):
        if history.rounds:
            return Stop("budget_spent", f"{depth} blocks stand untrained, and {spent}")
        return Train(0, f"{spent}: {depth} blocks are compared as they are")
    shorter = f", all that {limit} leaves" if limit else ""
    return Train(steps, f"training {depth} blocks on {steps * plan.batch_tokens:,} tokens{shorter}")


def _within(history: History, plan: Plan) -> Action:
    """At an evaluation within a round."""
    depth, last = history.standing or plan.start, history.seen[-1]
    spent = sum(done.seconds for done in history.rounds) + last.seconds * (1 + 1 / len(history.seen))
    if plan.max_seconds is not None and spent > plan.max_seconds:
        return Stop("budget_spent", f"{depth} blocks: the limit of {plan.max_seconds:g} seconds ends the round here")
    falling = plan.decay_steps and last.step >= last.end - plan.decay_steps
    if plan.literal or falling or len(history.seen) < _FEWEST_LOOKS:
        return GoOn("")
    wanted = plan.margin - (last.gap.high - last.gap.mean)
    if plan.decay_steps and (now := _if_decayed(history, plan)).high < wanted:
        return Decay(plan.decay_steps, f"{depth} blocks: forecast gap {now} if the rate falls now, so it falls")
    if last.step < _SEEN_AT_LEAST * last.end:
        return GoOn("")
    after = _at_end(history, plan)
    said = f"{depth} blocks: forecast gap {after} after the round"
    if after.low <= wanted:
        return GoOn(said)
    if depth >= plan.max_depth:
        return Stop("not_matched", f"{said}, and this is the deepest target allowed")
    deeper = _deeper(depth, after.mean, plan)
    if spent_ := _limit(_cut(history, plan), plan, deeper):
        return GoOn(f"{said}; {spent_}, so this round is finished")
    return Grow(deeper, f"{said}, so growing to {deeper} now")


def _cut(history: History, plan: Plan) -> History:
    """The history if the standing round were ended here."""
    depth, last = history.standing or plan.start, history.seen[-1]
    tokens, flops = last.step * plan.batch_tokens, last.step * plan.step_flops.get(depth, 0.0)
    done = Finished(depth, last.gap, tokens, flops, last.seconds, history.seen)
    return History(depth, False, (*history.rounds, done))


def _at_end(history: History, plan: Plan) -> Forecast:
    """The gap at the end of the standing round."""
    end = history.seen[-1].end
    whole = (done.seen for done in reversed(history.rounds) if done.seen and done.seen[-1].step == end)
    return _forecast(history.seen, end, lambda step: plan.rate(step, end), next(whole, None), _SURE)


def _if_decayed(history: History, plan: Plan) -> Forecast:
    """The gap if the rate fell from here."""
    last, steps = history.seen[-1], plan.decay_steps
    peak = plan.rate(last.step, last.end)

    def rate(step: int) -> float:
        return plan.rate(step, last.end) if step <= last.step else peak * (1 - (step - last.step) / steps)

    return _forecast(history.seen, last.step + steps, rate)


def _forecast(
    seen: tuple[Seen, ...],
    end: int,
    rate: Callable[[int], float],
    like: tuple[Seen, ...] | None = None,
    confidence: float = 0.8,
) -> Forecast:
    curve, other = _curve(seen), _curve(like) if like else None
    return forecast(*curve, end, reference=other, rate=rate, confidence=confidence)


def _curve(seen: tuple[Seen, ...]) -> tuple[list[int], list[float]]:
    return [look.step for look in seen], [look.gap.mean for look in seen]


def _deeper(depth: int, gap: float, plan: Plan) -> int:
    """The smallest depth whose gap after a round is expected in the lower half of the margin, else the deepest."""
    depths = [*range(depth + plan.add, plan.max_depth, plan.add), plan.max_depth]
    if plan.literal or depth not in plan.untrained:
        return depths[0]
    for wanted in depths:
        gained = plan.untrained[depth] - plan.untrained.get(wanted, plan.untrained[depth])
        if gap - _LEFT_AFTER_TRAINING * gained < plan.margin / 2:
            return wanted
    return plan.max_depth


def _said(last: Finished) -> str:
    return f"{last.depth} blocks: gap {last.gap.mean:+.3f} [{last.gap.low:+.3f}, {last.gap.high:+.3f}]"


def _room(history: History, plan: Plan, depth: int) -> tuple[int, str]:
    """Steps of a round at `depth`, a whole one at most, and the limit that leaves no more."""
    tokens, flops = (sum(getattr(done, name) for done in history.rounds) for name in ("tokens", "flops"))
    room = [(float(plan.round_steps), "")]
    if plan.max_tokens is not None:
        room.append(((plan.max_tokens - tokens) / plan.batch_tokens, f"the limit of {plan.max_tokens:,} tokens"))
    if plan.max_flops is not None and (each := plan.step_flops.get(depth, 0.0)):
        room.append(((plan.max_flops - flops) / each, f"the limit of {plan.max_flops:.3g} FLOPs"))
    steps, limit = min(room, key=lambda pair: pair[0])
    return max(0, int(steps)), limit


def _limit(history: History, plan: Plan, depth: int) -> str | None:
    """The limit that leaves no round worth training at `depth`."""
    if len(history.rounds) >= plan.max_rounds:
        return f"the limit of {plan.max_rounds} rounds is reached"
    if plan.max_seconds is not None and sum(done.seconds for done in history.rounds) >= plan.max_seconds:
        return f"the limit of {plan.max_seconds:g} seconds is reached"
    steps, limit = _room(history, plan, depth)
    least = max(int(_LEAST_SHARE * plan.round_steps), 2 * plan.warmup_steps, 1)
    return f"{limit} leaves no round" if steps < (plan.round_steps if plan.literal else least) else None
