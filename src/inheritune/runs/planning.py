"""What the policy has to know beforehand: depths, limits, the schedule, and what each depth costs and loses untrained."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from inheritune.choosing import Ordering, Search
from inheritune.choosing.by_hand import start_by_hand
from inheritune.config.recipes import RunRecipe
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.decoder.stack import Stack
from inheritune.evidence.left import ExpectedGap, left_after, new_tokens
from inheritune.evidence.sequential import look_confidence, reading_confidence
from inheritune.progress import Rates, Tally
from inheritune.records.stages import FittedDepth, PlannedLooks, Untrained
from inheritune.runs.actions import Plan
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed
from inheritune.runs.policy import FAIR, starting_depth
from inheritune.runs.size import deepest
from inheritune.training.costs import step_flops
from inheritune.training.schedule import learning_rate, of_steps, steps_of

# A chance to match below which a cut is not asked for: a run starts at a fair chance and only grows, so half of that is low enough.
_HOPELESS = FAIR / 2


def make_plan(bench: Bench, folder: Path, choice: Ordering, by_hand: int) -> Plan:
    """The plan of a run: the depth to start at, how it grows, and its limits.

    The start is the depth of the blocks named `by_hand` (0: none), or else `growth.start` of the recipe, or the depth of the size
    that its goal names. If the recipe names none, the paper's loop starts at half the reference's depth, and ours at the
    smallest depth that is likely enough to match after one round. Where the goal is the smallest depth, a round has all the tokens
    that the limits allow.
    """
    recipe, depth = bench.recipe, anatomy(bench.model).depth
    growth, limits, training = recipe.growth, recipe.limits, recipe.training
    fitted = fitted_depth(bench, folder)
    last = fitted or growth.max_depth or depth - 1
    start = by_hand or fitted or start_by_hand(growth, depth)
    left = {} if growth.literal else _left(bench, choice, _untrained(bench, folder, choice, start or 1))
    start = start or starting_depth(left, last, recipe.match.margin)
    steps, warmup = round_tokens(recipe) // training.batch_tokens, training.warmup_tokens // training.batch_tokens
    return Plan(
        start=start, add=growth.add, max_depth=last, margin=recipe.match.margin, round_steps=steps,
        batch_tokens=training.batch_tokens, max_rounds=limits.max_rounds,
        max_tokens=round_tokens(recipe) if growth.goal == "smallest" else limits.max_tokens,
        max_flops=limits.max_flops, max_seconds=limits.max_seconds, literal=growth.literal, fit=fitted is not None,
        warmup_steps=warmup,
        decay_steps=round(training.decay_share * (steps - warmup)) if training.schedule == "wsd" else 0,
        rate=lambda step, end: learning_rate(of_steps(training, end), step),
        step_flops={wanted: _step_flops(bench, choice, wanted) for wanted in range(start, last + 1)},
        left=left,
    )  # fmt: skip


def plan_looks(looks: int, reads: int, confidence: float) -> PlannedLooks:
    """The confidence of each look and of each further reading, so that a whole run is `confidence` sure."""
    each = look_confidence(confidence, looks, reads)
    if not reads:
        return PlannedLooks(looks=looks, confidence=each)
    reading = reading_confidence(confidence, looks, reads)
    return PlannedLooks(looks=looks, confidence=each, reads=reads, reading_confidence=reading)


def hopeless(bench: Bench) -> Callable[[float], bool]:
    """Return a test of whether a cut that loses so many nats untrained has too small a chance to match after a round to be asked for.

    No cut is hopeless where the recipe names the start itself.
    """
    recipe, parameters = bench.recipe, parameter_count(bench.model)
    tokens = new_tokens(round_tokens(recipe), len(bench.train_tokens))
    if recipe.growth.literal or recipe.growth.start or recipe.growth.target or recipe.choice.blocks:
        return Search.hopeless
    return lambda lost: left_after(lost, tokens, parameters).chance_below(recipe.match.margin) < _HOPELESS


def _left(bench: Bench, choice: Ordering, untrained: dict[int, float]) -> dict[int, ExpectedGap]:
    """The gap that is expected at each depth after a round, which is as long as the limits allow at that depth."""
    whole, parameters = untrained[max(untrained)], parameter_count(bench.model)
    batch, most = bench.recipe.training.batch_tokens, bench.recipe.limits.max_flops

    def tokens(depth: int) -> int:
        longest = round_tokens(bench.recipe)
        within = longest if most is None else min(longest, int(most / _step_flops(bench, choice, depth)) * batch)
        return new_tokens(within, len(bench.train_tokens))

    return {d: left_after(loss - whole, tokens(d), parameters) for d, loss in untrained.items()}


def _step_flops(bench: Bench, choice: Ordering, depth: int) -> int:
    recipe = bench.recipe
    teacher = bench.model if recipe.objective.taught else None
    return step_flops(bench.model, recipe.training, recipe.data.sequence_length, teacher, choice.blocks(depth))


def round_tokens(recipe: RunRecipe) -> int:
    """The tokens of a round, in whole steps; where the goal is the smallest depth, all that the limits allow."""
    training, limits = recipe.training, recipe.limits
    if recipe.growth.goal != "smallest":
        return steps_of(training) * training.batch_tokens
    most = limits.max_tokens or limits.max_rounds * training.tokens
    return most // training.batch_tokens * training.batch_tokens


def fitted_depth(bench: Bench, folder: Path) -> int | None:
    """The depth that meets the goal's size, kept in `size.json`; None if the goal names none. Raises RecipeError if no cut meets it."""
    size = bench.recipe.growth.target
    if size is None:
        return None

    def measure() -> FittedDepth:
        return FittedDepth(depth=deepest(size, bench.model, bench.written_dtype))

    return once(FittedDepth, folder / FittedDepth.NAME, measure).depth


def _untrained(bench: Bench, folder: Path, choice: Ordering, shallowest: int) -> dict[int, float]:
    """The loss of each depth's cut before any training or repair, the whole reference's last; kept in `untrained.json`.

    From the deepest down to `shallowest`, or to the first that is hopeless. A depth whose loss is not finite is left out: no
    cut is expected to match from there.
    """

    def measure() -> Untrained:
        tokens_BT = bench.sequences(bench.recipe.choice.sequences, bench.recipe.data.sequence_length)
        precision = bench.precision_of_cuts
        stack = Stack(bench.model, tokens_BT, bench.begin.unasked, precision=precision)
        count = partial(
            Rates(bench.progress, early=True),
            "Losses of cuts before any training, to the first from which none matches",
        )
        found, seconds = timed(lambda: _downwards(stack, choice, shallowest, hopeless(bench), count))
        losses = {depth: loss for depth, loss in sorted(found.items()) if math.isfinite(loss)}
        return Untrained(
            losses=losses, precision=precision, tokens=tokens_BT.numel(), flops=stack.flops, seconds=seconds
        )

    return once(Untrained, folder / Untrained.NAME, measure, together=True).losses


def _downwards(
    stack: Stack, choice: Ordering, shallowest: int, ends: Callable[[float], bool], count: Tally
) -> dict[int, float]:
    """The loss of each depth's cut, from the whole model down, until what a cut loses meets `ends`; `count` receives the cuts done."""
    count(0, stack.depth - shallowest)
    losses = {stack.depth: stack.loss(stack.run(stack.hidden0, choice.blocks(stack.depth)))}
    for depth in range(stack.depth - 1, shallowest - 1, -1):
        losses[depth] = stack.loss(stack.run(stack.hidden0, choice.blocks(depth)))
        count(stack.depth - depth, stack.depth - shallowest)
        if ends(losses[depth] - losses[stack.depth]):
            break
    return losses
