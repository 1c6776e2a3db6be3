"""A plan in sentences: the two lines that a run begins with, and what its tokens can buy."""

from collections.abc import Iterator

from inheritune.records.estimate import DepthReach, RunEstimate
from inheritune.records.result import PlanHeld
from inheritune.report import words
from inheritune.words import plural

_FAIR, _EVEN = 1 / 3, 0.5
_SHOWN = 5


def in_two_lines(found: RunEstimate) -> tuple[str, str]:
    """What a run takes, and what it can give."""
    machine, total = found.machine, found.total
    how = "as tried" if machine.tried else "as assumed"
    most = total.seconds + (found.most_rounds - 1) * found.further_round.seconds
    upto = f", {words.duration(most)} with all {found.most_rounds}" if found.most_rounds > 1 else ""
    paid = "" if (cost := found.cost(total.seconds)) is None else f", {cost:,.2f} in money"
    count = f"{machine.processes} x " if machine.processes > 1 else ""
    takes = (
        f"Plan: about {words.duration(total.seconds)} with one round{upto}, {words.size(total.memory)} of memory,"
        f" {words.size(total.disk)} of disk{paid}, on {count}{machine.name} {how}"
    )
    target, whole = found.target, found.reference
    chance = next((reach.chance for reach in found.reach if reach.depth == target.depth), 0.0)
    parameters = f"{words.large_number(target.parameters)} parameters ({_change(target.parameters, whole.parameters)})"
    own, other = target.footprint, whole.footprint
    gives = (
        f"Target: {target.depth} of {plural(whole.depth, 'block')}, {parameters},"
        f" {words.size(own.weight_bytes)} of weights in {own.dtype} ({_change(own.weight_bytes, other.weight_bytes)})"
        f"{_cache(found)}; a chance of {100 * chance:.0f}% to match within {found.margin:g} after a round of"
        f" {words.large_number(found.round_tokens)} tokens"
    )
    return takes, gives


def reach_in_words(found: RunEstimate) -> Iterator[str]:
    """The depths that the tokens can buy, or that they buy none."""
    reach = found.reach
    target = next(each for each in reach if each.depth == found.target.depth)
    fair = [each for each in reach if each.chance >= _FAIR]
    if not fair:
        yield f"Not with these tokens: even {plural(reach[0].depth, 'block')} have a chance of {100 * reach[0].chance:.0f}% to match."
    elif target.chance < _FAIR:
        yield f"Not with these tokens: {_told(target)}; {fair[-1].depth} blocks are the fewest with a fair chance."
    if min(each.depth for each in (target, *fair)) * 2 < found.reference.depth:
        yield "Of cuts to fewer than half of the blocks no round was ever recorded: their chances are a guess."
    if found.tokens_for_even is None:
        yield f"No number of tokens gives {plural(target.depth, 'block')} an even chance, by this forecast."
    elif target.chance < _EVEN:
        yield f"For an even chance, {plural(target.depth, 'block')} take a round of about {words.large_number(found.tokens_for_even)} tokens."
    if found.text_tokens is not None and found.round_tokens > found.text_tokens:
        yield f"The text has about {words.large_number(found.text_tokens)} tokens: each is read {found.round_tokens / found.text_tokens:.1f} times."
    if found.reference.footprint.dtype.startswith("packed"):
        yield (
            f"The reference's weights are packed, the target's are written in {found.target.footprint.dtype}: inheritune export --to gguf"
            " --quantise packs them again."
        )
    wanted = reach.index(target)
    near = {target.depth, *(each.depth for each in reach[:_SHOWN] + reach[max(0, wanted - 1) : wanted + 2])}
    for each in reach:
        if each.depth in near:
            yield f"  {_told(each)}"
    measured = (
        "the cuts' losses are measured"
        if target.measured
        else "no cut is measured: other models' cuts are taken, a factor of two apart"
    )
    yield f"Gaps are nats per token with 80% intervals, by the forecast that the run starts with; {measured}."


def held_in_words(held: PlanHeld) -> str:
    """The plan against what a run took."""
    return (
        f"Planned were {words.duration(held.planned_seconds)} and {words.size(held.planned_memory)} of memory; it took"
        f" {words.duration(held.seconds)} and {words.size(held.memory)}"
    )


def _told(reach: DepthReach) -> str:
    low, mean, high = reach.gap
    return (
        f"{plural(reach.depth, 'block')}: gap {words.signed(mean, 3)} [{words.signed(low, 3)}, {words.signed(high, 3)}],"
        f" a chance of {100 * reach.chance:.0f}% to match"
    )


def _change(own: int, whole: int) -> str:
    return f"{words.signed(100 * (own / whole - 1), 0)}%"


def _cache(found: RunEstimate) -> str:
    own, whole = (model.footprint.cache_bytes_per_token for model in (found.target, found.reference))
    return f", {words.size(own)} of cache a token ({_change(own, whole)})" if own and whole else ""
