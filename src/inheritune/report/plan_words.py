"""A plan in sentences: the two lines that a run begins with, and what its tokens can buy."""

import math
from collections.abc import Iterator

from inheritune.evidence.left import READINGS, new_tokens, taken_off, tokens_that_halve
from inheritune.records.estimate import DepthReach, Machinery, RunEstimate
from inheritune.records.result import Footprint, PlanHeld
from inheritune.report import words
from inheritune.words import plural

_FAIR, _EVEN = 1 / 3, 0.5
_NOTHING = 0.1  # of the gap: tokens that take no more off it decide nothing
_SHOWN = 5


def in_two_lines(found: RunEstimate) -> tuple[str, str]:
    """What a run takes, and what it can give."""
    total, further = found.total, found.further_round
    most = total.seconds + (found.most_rounds - 1) * further.seconds
    upto = f", {_times(found, most)} with all {found.most_rounds}" if found.most_rounds > 1 else ""
    takes = (
        f"Plan: about {_times(found, total.seconds)} with one round{upto}, {words.size(total.memory)} of memory,"
        f" {words.size(total.disk)} of disk{_costs(found)}, on {_machine(found.machine)}"
    )
    target, whole = found.target, found.reference
    parameters = f"{words.large_number(target.parameters)} parameters ({_change(target.parameters, whole.parameters)})"
    own, other = target.footprint, whole.footprint
    gives = (
        f"Target: {target.depth} of {plural(whole.depth, 'block')}, {parameters},"
        f" {words.size(own.weight_bytes)} of weights in {own.dtype} ({_beside(own, other)})"
        f"{_cache(found)}, by its parameters {whole.parameters / target.parameters:.2f} times as fast; {_expected(found)} after a round of {tokens_told(found.round_tokens, found.asked_tokens)}"
    )
    return takes, gives


def _times(found: RunEstimate, seconds: float) -> str:
    low, high = (words.about(each) for each in found.span(seconds))
    return low if low == high else f"{low} to {high}"


def _costs(found: RunEstimate) -> str:
    """What one round and all around it cost, at the price that was given."""
    low, high = (found.cost(each) for each in found.span(found.total.seconds))
    if low is None or high is None:
        return ""
    return (
        f", costs {low:,.2f}{f' to {high:,.2f}' if high > low else ''} (at --price {found.machine.price:,.2f} an hour)"
    )


def _machine(machine: Machinery) -> str:
    """What is planned for, and what its speed rests on."""
    count = f"{machine.processes} x " if machine.processes > 1 else ""
    how = "as tried" if machine.tried else "by half a second of matrix products when this was planned"
    if machine.shares:
        most, least = (f"{100 * share:.0f}%" for share in machine.shares)
        how = f"by {most} (as in the table) to {least} of its data sheet's rate, since nothing was ever measured on such a card"
    return f"{count}{machine.name}, {how}"


def _expected(found: RunEstimate) -> str:
    """What the target can come to: a chance to match, or, of a size that was asked for, its gap."""
    target = _target(found)
    if found.goal == "fit":
        return f"{_gap(target)} is expected, and no match is claimed,"
    return f"a chance of {100 * target.chance:.0f}% to match within {found.margin:g}"


def step_in_words(found: RunEstimate) -> str:
    """How fast a round goes, and what a process holds in a training step, the largest part first."""
    names = {"reference": "the reference", "states": "optimizer states", "program": "the program itself"}
    held = sorted(found.step.model_dump().items(), key=lambda part: -part[1])
    parts = ", ".join(f"{words.size(count)} for {names.get(name, name)}" for name, count in held if count)
    round_ = found.further_round
    return f"A round goes at about {float(f'{round_.tokens / round_.seconds:.2g}'):,.0f} tokens/s. In a training step: {parts}."


def tokens_told(tokens: int, asked: int | None) -> str:
    """The tokens of a training, and how many were `asked` for where whole steps are more."""
    if asked is None:
        return f"{words.large_number(tokens)} tokens"
    return f"{tokens:,} tokens (training.tokens={asked:,}, rounded up to whole steps)"


def _target(found: RunEstimate) -> DepthReach:
    return next(each for each in found.reach if each.depth == found.target.depth)


def reach_in_words(found: RunEstimate) -> Iterator[str]:
    """The depths that the tokens can buy, or that they buy none; of a size that was asked for, the gaps alone."""
    if found.goal != "fit":
        yield from _bought(found)
    yield from _bought_nothing(found)
    if found.text_tokens is not None and found.round_tokens > found.text_tokens:
        yield f"The text has about {words.large_number(found.text_tokens)} tokens: {_passes(found.round_tokens, found.text_tokens)}."
    yield from _packed(found)
    target, reach = _target(found), found.reach
    wanted = reach.index(target)
    first = 0 if found.goal == "fit" else _SHOWN
    near = {each.depth for each in reach[:first] + reach[max(0, wanted - 1) : wanted + 2]}
    for each in reach:
        if each.depth in near:
            yield f"  {_told(each, None if found.goal == 'fit' else found.margin)}"
    yield f"Gaps are nats per token with 80% intervals, by the forecast that the run starts with; {_rests_on(found)}."


def _bought(found: RunEstimate) -> Iterator[str]:
    target, reach = _target(found), found.reach
    fair = [each for each in reach if each.chance >= _FAIR]
    if not fair:
        yield f"Not with these tokens: even {plural(reach[0].depth, 'block')} have a chance of {100 * reach[0].chance:.0f}% to match."
    elif target.chance < _FAIR:
        yield f"Not with these tokens: {_told(target, found.margin)}; {fair[-1].depth} blocks are the fewest with a fair chance."
    if min(each.depth for each in (target, *fair)) * 2 < found.reference.depth:
        yield "Of cuts to fewer than half of the blocks no round was ever recorded: their chances are a guess."
    if found.tokens_for_even is None:
        yield f"No number of tokens gives {plural(target.depth, 'block')} an even chance, by this forecast."
    elif target.chance < _EVEN:
        yield _for_even(plural(target.depth, "block"), found.tokens_for_even, found.text_tokens)


def _for_even(blocks: str, tokens: int, text: int | None) -> str:
    """The tokens that `blocks` take for an even chance, or that a text has too few for it however often it is read."""
    told = words.large_number(tokens)
    if text is not None and tokens > new_tokens(tokens, text):
        wanted = words.large_number(math.ceil(tokens / READINGS))
        return (
            f"With this text no number of tokens gives {blocks} an even chance: that takes about {told}, and no more than {READINGS} readings"
            f" of a text count, so one of about {wanted} tokens; yours has about {words.large_number(text)}."
        )
    readings = f", {tokens / text:,.1f} readings of the text" if text and tokens > text else ""
    return f"For an even chance, {blocks} take a round of about {told} tokens{readings}."


def _bought_nothing(found: RunEstimate) -> Iterator[str]:
    """That the tokens decide nothing, where they are so few for the reference's parameters."""
    tokens, parameters = new_tokens(found.round_tokens, found.text_tokens), found.reference.parameters
    share = taken_off(tokens, parameters)
    if share < _NOTHING:
        counted = " that count" if tokens < found.round_tokens else ""
        yield (
            f"These tokens buy almost nothing: {words.large_number(tokens)}{counted} are {_plain(tokens / parameters)} for each of the reference's"
            f" parameters, and take less than {math.floor(100 * share) + 1}% off the gap that hardly any leave, so what is left is what the cut"
            f" leaves; about {words.large_number(tokens_that_halve(parameters))} of new text would halve it."
        )


def _plain(share: float) -> str:
    """A small number in two digits, without a power of ten: "0.000061"."""
    return f"{float(f'{share:.2g}'):.12f}".rstrip("0")


def already_fits(found: RunEstimate) -> Iterator[str]:
    """That the reference's own file has the size that was asked for, where it has."""
    held, asked = found.reference.footprint.weight_bytes, found.asked_bytes
    if asked is not None and held <= asked:
        yield (
            f"Your file of {words.size(held)} already fits: the cut below is the one whose weights take {words.size(asked)} at most as they are"
            f" written, in {found.target.footprint.dtype}."
        )


def _packed(found: RunEstimate) -> Iterator[str]:
    """What the target takes packed, beside a reference that is."""
    other = found.reference.footprint
    if not other.packed or not found.packed_bytes:
        return
    sizes = " and ".join(f"{words.size(count)} as {kind}" for kind, count in found.packed_bytes.items())
    saved = other.weight_bytes - min(found.packed_bytes.values())
    than = (
        f"about {words.size(saved)} less than your file"
        if saved > 0
        else "no less than your file, so this cut saves nothing on disk"
    )
    yield f"Packed too (inheritune export --to gguf --quantise) it takes about {sizes}: {than}."


def _passes(tokens: int, text: int) -> str:
    """How often a text is read, and what that means."""
    passes = tokens / text
    short = f", of which no more than {READINGS} count: give more of it" if passes > READINGS else ""
    return f"each is read {passes:,.1f} times{short}"


def _rests_on(found: RunEstimate) -> str:
    if _target(found).measured:
        return "the cuts' losses are measured"
    blocks = f"this recipe takes them by {found.choice!r}" if found.choice else "here they are named by hand"
    other = "" if found.choice == "greedy" else f", and {blocks}, which may lose more"
    return f"no cut is measured: other models' cuts are taken, most of them chosen greedily and a factor of two apart{other}"


def held_in_words(held: PlanHeld) -> str:
    """The plan against what a run took."""
    return (
        f"Planned were {words.about(held.planned_seconds)} and {words.size(held.planned_memory)} of memory{_paid(held.planned_cost)};"
        f" it took {words.duration(held.seconds)} and {words.size(held.memory)}{_paid(held.cost)}"
    )


def _paid(cost: float | None) -> str:
    return "" if cost is None else f", at a cost of {cost:,.2f}"


def _told(reach: DepthReach, margin: float | None) -> str:
    """A depth's gap and, where a match may be claimed, the chance of it within the `margin` and the margin that has nine chances in ten."""
    said = f"{plural(reach.depth, 'block')}: {_gap(reach)}"
    if margin is None:
        return said
    wide = reach.gap[2]  # one gap in ten is above an interval of 80%
    within = f", of 90% within {wide:.2g}" if wide > margin else ""
    return f"{said}, a chance of {100 * reach.chance:.0f}% to match within {margin:g}{within}"


def _gap(reach: DepthReach) -> str:
    low, mean, high = reach.gap
    return f"gap {words.signed(mean, 3)} [{words.signed(low, 3)}, {words.signed(high, 3)}]"


def _beside(own: Footprint, other: Footprint) -> str:
    """The target's bytes against the reference's, which say nothing in per cent where those alone are packed."""
    if other.packed:
        return f"the reference's are packed in {words.size(other.weight_bytes)}"
    return _change(own.weight_bytes, other.weight_bytes)


def _change(own: int, whole: int) -> str:
    return f"{words.signed(100 * (own / whole - 1), 0)}%"


def _cache(found: RunEstimate) -> str:
    own, whole = (model.footprint.cache_bytes_per_token for model in (found.target, found.reference))
    return f", {words.size(own)} of cache a token ({_change(own, whole)})" if own and whole else ""
