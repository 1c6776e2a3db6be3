"""Decide what to do next in a run: pure functions without torch, so that recorded histories are replayed in milliseconds.

`next_action` is the same for every run. Where the paper's loop and ours differ, it asks a set of rules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from inheritune.evidence.forecast import Forecast, forecast
from inheritune.evidence.left import ExpectedGap, after_seen
from inheritune.runs.actions import Action, Decay, Finished, GoOn, Grow, History, Inherit, Plan, Seen, Stop, Train

# A round is ended early by a forecast interval that errs in 1 of 400 looks: not before three fifths of the round, where too little is
# known of what the falling rate will give, and not in its last tenth, where little is saved (docs/results/forecast.md).
_SEEN_AT_LEAST, _SEEN_AT_MOST, _SURE = 0.6, 0.9, 0.995
_FEWEST_LOOKS = 2
_LEAST_SHARE = 0.1  # of a round: if a limit leaves less, that is not worth a warm-up
# Chances to match: of a depth to start at, where a failure costs three fifths of a round, and of one to grow to after a failed round.
FAIR, _LIKELY = 1 / 3, 0.8


class Rules(Protocol):
    """The decisions in which the loops differ."""

    def within(self, history: History, plan: Plan) -> Action:
        """What to do at an evaluation within a round: go on, begin the decay, grow or stop."""

    def deeper(self, depth: int, gap: float, plan: Plan) -> int:
        """The depth after a round at `depth` that ends `gap` nats behind the reference."""

    def fewest_steps(self, plan: Plan) -> int:
        """Steps of the shortest round that is worth beginning."""


class Paper:
    """The paper's loop (Algorithm 1): every round is whole, and depth grows by a fixed number of blocks."""

    def within(self, history: History, plan: Plan) -> Action:
        """Go on."""
        return GoOn()

    def deeper(self, depth: int, gap: float, plan: Plan) -> int:
        """`growth.add` blocks more."""
        return plan.deeper(depth)[0]

    def fewest_steps(self, plan: Plan) -> int:
        """A whole round."""
        return plan.round_steps


class Ours:
    """Our loop: rounds end where their end is forecast, and depth grows to where a match is likely."""

    def within(self, history: History, plan: Plan) -> Action:
        """Begin the decay once it is forecast to give a match. From three fifths of a round on, end the round if it is forecast to fail."""
        depth, last = _standing(history, plan), history.seen[-1]
        falls = plan.decay_steps and last.step >= last.end - plan.decay_steps
        if falls or len(history.seen) < _FEWEST_LOOKS:
            return GoOn()
        wanted = plan.margin - plan.reach_left * (last.gap.high - last.gap.mean)
        if plan.decay_steps and (now := _if_decayed(history, plan)).high < wanted:
            return Decay(plan.decay_steps, f"{depth} blocks: forecast gap {now} if the rate falls now, so it falls")
        if not _SEEN_AT_LEAST * last.end <= last.step <= _SEEN_AT_MOST * last.end:
            return GoOn()
        after = _at_end(history, plan)
        said = f"{depth} blocks: forecast gap {after} after the round"
        return GoOn(said) if after.low <= wanted else self._leave(history, plan, after.mean, said)

    def _leave(self, history: History, plan: Plan, gap: float, said: str) -> Action:
        """Leave a round that is forecast to end at `gap`, too high for a match: for a deeper target, if depth and limits allow one."""
        depth = _standing(history, plan)
        if depth >= plan.max_depth:
            return Stop("not_matched", f"{said}, and this is the deepest target allowed")
        deeper = self.deeper(depth, gap, plan)
        if spent := _limit(_cut(history, plan), plan, deeper):
            return GoOn(f"{said}; {spent}, so this round is finished")
        return Grow(deeper, f"{said}, so growing to {deeper} now")

    def deeper(self, depth: int, gap: float, plan: Plan) -> int:
        """The smallest depth that is likely to match, given this round's gap, or else the deepest allowed."""
        depths = plan.deeper(depth)
        if depth not in plan.left:
            return depths[0]
        expected = {d: after_seen(plan.left[d], plan.left[depth], gap) for d in depths if d in plan.left}
        likely = (d for d, left in expected.items() if left.chance_below(plan.margin) >= _LIKELY)
        return next(likely, plan.max_depth)

    def fewest_steps(self, plan: Plan) -> int:
        """A tenth of a round, and at least twice its warm-up."""
        return max(int(_LEAST_SHARE * plan.round_steps), 2 * plan.warmup_steps, 1)


class Fit(Ours):
    """One round at the depth that was asked for, to its end."""

    def within(self, history: History, plan: Plan) -> Action:
        """Go on."""
        return GoOn()


def starting_depth(left: Mapping[int, ExpectedGap], deepest: int, margin: float) -> int:
    """The smallest depth whose cut is likely enough to be within the margin after a round, or else the deepest allowed."""
    fair = (d for d in sorted(left) if d < deepest and left[d].chance_below(margin) >= FAIR)
    return next(fair, deepest)


def rules(plan: Plan) -> Rules:
    """The rules that a plan is carried out by."""
    if plan.fit:
        return Fit()
    return Paper() if plan.literal else Ours()


def next_action(history: History, plan: Plan) -> Action:
    """The next action, and why, in one line a person understands."""
    if history.standing is None:
        return Inherit(plan.start, _starting(plan))
    if history.waiting:
        return _within(history, plan) if history.seen else _round(history, plan)
    last = history.rounds[-1]
    if plan.fit:
        return Stop("fitted", f"{_said(last)} is what came of this size; no match is claimed")
    if last.gap.matched:
        return Stop("matched", f"{_said(last)} lies below the margin {plan.margin:g}, so this is a match")
    if last.seen and last.seen[-1].step < last.seen[-1].end:
        before = History(last.depth, True, history.rounds[:-1], last.seen)
        if isinstance(action := _within(before, plan), Grow | Stop):
            return action
    return _after(history, plan, last)


def _starting(plan: Plan) -> str:
    said = f"starting with {plan.start} blocks"
    return f"{said}: {plan.left[plan.start]}" if plan.start in plan.left else said


def _round(history: History, plan: Plan) -> Action:
    """Before a round: train as long as the limits allow. Where they allow no round, stop, or compare a first target as it is."""
    depth = _standing(history, plan)
    steps, limit = _room(history, plan, depth)
    if spent := _limit(history, plan, depth):
        if history.rounds:
            return Stop("budget_spent", f"{depth} blocks stand untrained, and {spent}")
        return Train(0, f"{spent}: {depth} blocks are compared as they are")
    shorter = f", all that {limit} leaves" if limit else ""
    return Train(steps, f"training {depth} blocks on {steps * plan.batch_tokens:,} tokens{shorter}")


def _within(history: History, plan: Plan) -> Action:
    """At an evaluation within a round: the limit of seconds, which is the same for every loop, and then the loop's rules."""
    last = history.seen[-1]
    spent = history.seconds + last.seconds * (1 + 1 / len(history.seen))
    if plan.max_seconds is not None and spent > plan.max_seconds:
        depth = _standing(history, plan)
        return Stop("budget_spent", f"{depth} blocks: the limit of {plan.max_seconds:g} seconds ends the round here")
    return rules(plan).within(history, plan)


def _after(history: History, plan: Plan, last: Finished) -> Action:
    """After a round that did not match."""
    said = f"{_said(last)} is not below the margin {plan.margin:g}"
    if last.depth >= plan.max_depth:
        return Stop("not_matched", f"{said}, and this is the deepest target allowed")
    depth = rules(plan).deeper(last.depth, last.gap.mean, plan)
    if spent := _limit(history, plan, depth):
        return Stop("budget_spent", f"{said}, and {spent}")
    return Grow(depth, f"{said}, so growing to {depth}")


def _standing(history: History, plan: Plan) -> int:
    return history.standing or plan.start


def _said(last: Finished) -> str:
    return f"{last.depth} blocks: gap {last.gap.mean:+.3f} [{last.gap.low:+.3f}, {last.gap.high:+.3f}]"


def _cut(history: History, plan: Plan) -> History:
    """The history as if the current round were ended here."""
    depth, last = _standing(history, plan), history.seen[-1]
    tokens, flops = last.step * plan.batch_tokens, last.step * plan.step_flops.get(depth, 0.0)
    done = Finished(depth, last.gap, tokens, flops, last.seconds, history.seen)
    return History(depth, False, (*history.rounds, done))


def _at_end(history: History, plan: Plan) -> Forecast:
    """Forecast the gap at the end of the current round, with the help of the last whole round on the same schedule."""
    end = history.seen[-1].end
    return forecast_end(history.seen, [done.seen for done in history.rounds], lambda step: plan.rate(step, end))


def forecast_end(seen: tuple[Seen, ...], before: Sequence[tuple[Seen, ...]], rate: Callable[[int], float]) -> Forecast:
    """Forecast the gap at the end of a round from its evaluations `seen`, helped by the last of the rounds `before` that was as long and whole.

    `rate` is the learning rate at a step of the round.
    """
    end = seen[-1].end
    whole = (other for other in reversed(before) if other and other[-1].step == end)
    like = next(whole, None)
    return forecast(*_curve(seen), end, reference=_curve(like) if like else None, rate=rate, confidence=_SURE)


def _if_decayed(history: History, plan: Plan) -> Forecast:
    """Forecast the gap if the learning rate fell from here on."""
    last, steps = history.seen[-1], plan.decay_steps
    peak = plan.rate(last.step, last.end)

    def rate(step: int) -> float:
        return plan.rate(step, last.end) if step <= last.step else peak * (1 - (step - last.step) / steps)

    return forecast(*_curve(history.seen), last.step + steps, rate=rate)


def _curve(seen: tuple[Seen, ...]) -> tuple[list[int], list[float]]:
    return [look.step for look in seen], [look.gap.mean for look in seen]


def _room(history: History, plan: Plan, depth: int) -> tuple[int, str]:
    """The steps that a round at `depth` can have, a whole round's at most, and the limit that leaves no more."""
    tokens, flops = (sum(getattr(done, name) for done in history.rounds) for name in ("tokens", "flops"))
    room = [(float(plan.round_steps), "")]
    if plan.max_tokens is not None:
        room.append(((plan.max_tokens - tokens) / plan.batch_tokens, f"the limit of {plan.max_tokens:,} tokens"))
    if plan.max_flops is not None and (each := plan.step_flops.get(depth, 0.0)):
        room.append(((plan.max_flops - flops) / each, f"the limit of {plan.max_flops:.3g} FLOPs"))
    steps, limit = min(room, key=lambda pair: pair[0])
    return max(0, int(steps)), limit


def _limit(history: History, plan: Plan, depth: int) -> str | None:
    """Say which limit leaves no round worth training at `depth`; None if none does."""
    if len(history.rounds) >= plan.max_rounds:
        return f"the limit of {plan.max_rounds} rounds is reached"
    if plan.max_seconds is not None and history.seconds >= plan.max_seconds:
        return f"the limit of {plan.max_seconds:g} seconds is reached"
    steps, limit = _room(history, plan, depth)
    return f"{limit} leaves no round" if steps < rules(plan).fewest_steps(plan) else None
