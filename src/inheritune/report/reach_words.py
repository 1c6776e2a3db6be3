"""What a round's tokens can buy, in sentences: depths with their gaps and chances, and a note if the tokens are too few."""

import math
from collections.abc import Iterator

from inheritune.evidence.left import READINGS, new_tokens, taken_off, tokens_that_halve
from inheritune.records.estimate import DepthReach, RunEstimate
from inheritune.report import words
from inheritune.words import plural

_FAIR, _EVEN = 1 / 3, 0.5
_NOTHING = 0.1  # share of the gap: tokens that take less off it decide nothing
_SHOWN = 5


def reach_in_words(found: RunEstimate) -> Iterator[str]:
    """The depths that the tokens can buy, or that they buy none; if a size was asked for, the gaps alone."""
    if found.goal != "fit":
        yield from _bought(found)
    yield from _bought_nothing(found)
    if found.text_tokens is not None and found.round_tokens > found.text_tokens:
        yield f"The text has about {words.large_number(found.text_tokens)} tokens: {_passes(found.round_tokens, found.text_tokens)}."
    target, reach = target_reach(found), found.reach
    wanted = reach.index(target)
    first = 0 if found.goal == "fit" else _SHOWN
    near = {each.depth for each in reach[:first] + reach[max(0, wanted - 1) : wanted + 2]}
    for each in reach:
        if each.depth in near:
            yield f"  {_told(each, None if found.goal == 'fit' else found.margin)}"
    yield f"Gaps are nats per token with 80% intervals, by the forecast that the run starts with; {_rests_on(found)}."


def _bought(found: RunEstimate) -> Iterator[str]:
    target, reach = target_reach(found), found.reach
    fair = [each for each in reach if each.chance >= _FAIR]
    if not fair:
        yield f"Not with these tokens: even {plural(reach[0].depth, 'block')} have a chance of {100 * reach[0].chance:.0f}% to match."
    elif target.chance < _FAIR:
        yield f"Not with these tokens: {_told(target, found.margin)}; {fair[-1].depth} blocks are the fewest with a fair chance."
    if min(each.depth for each in (target, *fair)) * 2 < found.reference.depth:
        yield "No round was ever recorded with fewer than half of the blocks: these chances are a guess."
    if found.tokens_for_even is None:
        yield f"By this forecast no number of tokens gives {plural(target.depth, 'block')} an even chance on text that the reference knows."
    elif target.chance < _EVEN:
        yield _for_even(plural(target.depth, "block"), found.tokens_for_even, found.text_tokens)


def _for_even(blocks: str, tokens: int, text: int | None) -> str:
    """The tokens that `blocks` need for an even chance, or that the text has too few for it however often it is read."""
    told = words.large_number(tokens)
    if text is not None and tokens > new_tokens(tokens, text):
        wanted = words.large_number(math.ceil(tokens / READINGS))
        return (
            f"However often it is read, this text gives {blocks} no even chance: that takes a round of about {told} tokens, and no more than"
            f" {READINGS} readings of a text count, so it takes a text of about {wanted}. Yours has about {words.large_number(text)}."
        )
    readings = f", {tokens / text:,.1f} readings of the text" if text and tokens > text else ""
    return f"For an even chance, {blocks} take a round of about {told} tokens{readings}."


def _bought_nothing(found: RunEstimate) -> Iterator[str]:
    """A note if the tokens decide nothing, being too few for the reference's parameters."""
    tokens, parameters = new_tokens(found.round_tokens, found.text_tokens), found.reference.parameters
    share = taken_off(tokens, parameters)
    if share < _NOTHING:
        counted = " that count" if tokens < found.round_tokens else ""
        yield (
            f"These tokens buy almost nothing: {words.large_number(tokens)}{counted} are {_plain(tokens / parameters)} for each of the reference's"
            f" parameters, which make the gap less than {math.floor(100 * share) + 1}% smaller than a few steps would."
            f" About {words.large_number(tokens_that_halve(parameters))} tokens of new text would halve that gap."
        )


def _plain(share: float) -> str:
    """A small number in two digits, without a power of ten: "0.000061"."""
    return f"{float(f'{share:.2g}'):.12f}".rstrip("0")


def _passes(tokens: int, text: int) -> str:
    """How often a text is read, and a note if more often than counts."""
    passes = tokens / text
    short = f", of which no more than {READINGS} count: give more of it" if passes > READINGS else ""
    return f"each is read {passes:,.1f} times{short}"


def _rests_on(found: RunEstimate) -> str:
    blocks = f"this recipe takes them by {found.choice!r}" if found.choice else "here they are named by hand"
    other = "" if found.choice == "greedy" else f", and {blocks}, which may lose more"
    return f"no cut is measured: other models' cuts are taken, most of them chosen greedily and a factor of two apart{other}"


def _told(reach: DepthReach, margin: float | None) -> str:
    """A depth's gap and, if a match may be claimed, its chance within the `margin` and the margin within which the chance is 90%."""
    said = f"{plural(reach.depth, 'block')}: {gap_told(reach.gap)}"
    if margin is None:
        return said
    wide = reach.gap[2]  # one gap in ten is above an interval of 80%
    within = f", of 90% within {wide:.2g}" if wide > margin else ""
    return f"{said}, a chance of {100 * reach.chance:.0f}% to match within {margin:g}{within}"


def gap_told(gap: tuple[float, float, float]) -> str:
    """A gap and its interval."""
    low, mean, high = gap
    return f"gap {words.signed(mean, 3)} [{words.signed(low, 3)}, {words.signed(high, 3)}]"


def target_reach(found: RunEstimate) -> DepthReach:
    """What is expected of the target's depth."""
    return next(each for each in found.reach if each.depth == found.target.depth)
