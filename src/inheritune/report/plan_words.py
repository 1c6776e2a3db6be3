"""A plan in sentences: the two lines that a run begins with, what they rest on, and what a target takes packed."""

from collections.abc import Iterator

from inheritune.records.estimate import Machinery, RunEstimate
from inheritune.records.result import Footprint, Result
from inheritune.report import words
from inheritune.report.reach_words import gap_told, target_reach
from inheritune.words import plural


def in_two_lines(found: RunEstimate) -> tuple[str, str]:
    """Two sentences: what a run takes, and what target it can give."""
    total, further = found.total, found.further_round
    most = total.seconds + (found.most_rounds - 1) * further.seconds
    upto = f", {_times(found, most)} with all {found.most_rounds} rounds" if found.most_rounds > 1 else ""
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
        f"{_cache(found)}, {whole.parameters / target.parameters:.2f} times as fast by its parameter count; {_expected(found)} after a round of {tokens_told(found.round_tokens, found.asked_tokens)}"
    )
    return takes, gives


def _times(found: RunEstimate, seconds: float) -> str:
    low, high = (words.about(each) for each in found.span(seconds))
    return low if low == high else f"{low} to {high}"


def _costs(found: RunEstimate) -> str:
    """The cost of one round and everything around it, at the price that was given; empty without one."""
    low, high = (found.cost(each) for each in found.span(found.total.seconds))
    if low is None or high is None:
        return ""
    return (
        f", costs {low:,.2f}{f' to {high:,.2f}' if high > low else ''} (at --price {found.machine.price:,.2f} an hour)"
    )


def _machine(machine: Machinery) -> str:
    """The machine that is planned for, and what the estimate of its speed rests on."""
    count = f"{machine.processes} x " if machine.processes > 1 else ""
    how = "as tried" if machine.tried else "at the speed of half a second of matrix products when this was planned"
    if machine.shares:
        most, least = (f"{100 * share:.0f}%" for share in machine.shares)
        how = (
            f"by {most} (as in the table) to {least} of its data sheet's rate; one H200 reached 39% and 46% with models of 0.4 and 1.2 billion"
            " parameters, and small models reach less"
        )
    return f"{count}{machine.name}, {how}"


def _expected(found: RunEstimate) -> str:
    """What is expected of the target: its chance to match, or, if a size was asked for, its gap."""
    target = target_reach(found)
    if found.goal == "fit":
        return f"{gap_told(target.gap)} is expected, and no match is claimed,"
    return f"a chance of {100 * target.chance:.0f}% to match within {found.margin:g}"


def step_in_words(found: RunEstimate) -> str:
    """The speed of a round, and the memory that a process holds in a training step, the largest part first."""
    names = {"reference": "the reference", "states": "optimizer states", "program": "the program itself"}
    held = sorted(found.step.model_dump().items(), key=lambda part: -part[1])
    parts = ", ".join(f"{words.size(count)} for {names.get(name, name)}" for name, count in held if count)
    round_ = found.further_round
    return f"A round goes at about {float(f'{round_.tokens / round_.seconds:.2g}'):,.0f} tokens/s. In a training step: {parts}."


def tokens_told(tokens: int, asked: int | None) -> str:
    """The tokens of a training, and how many were `asked` for if whole steps make more."""
    if asked is None:
        return f"{words.large_number(tokens)} tokens"
    return f"{tokens:,} tokens (training.tokens={asked:,}, rounded up to whole steps)"


def already_fits(found: RunEstimate) -> Iterator[str]:
    """A note if the reference's own file already has the size that was asked for."""
    held, asked = found.reference.footprint.weight_bytes, found.asked_bytes
    if asked is not None and held <= asked:
        yield (
            f"Your file of {words.size(held)} already fits: the cut below is the one whose weights take {words.size(asked)} at most as they are"
            f" written, in {found.target.footprint.dtype}."
        )


def packed_in_words(found: RunEstimate) -> Iterator[str]:
    """The size of the target if packed as well, beside a reference that is packed."""
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
    yield f"Packed as well (inheritune export --to gguf --quantise), the target takes about {sizes}: {than}."


def held_in_words(result: Result) -> Iterator[str]:
    """Compare the plan with what a run took, and the forecast of its first round with the outcome; nothing for a run without a plan."""
    held = result.planned
    if held is None:
        return
    yield (
        f"The plan was {words.about(held.planned_seconds)} and {words.size(held.planned_memory)} of memory{_paid(held.planned_cost)};"
        f" the run took {words.duration(held.seconds)} and {words.size(held.memory)}{_paid(held.cost)}"
    )
    if held.expected_gap and held.expected_tokens:
        yield _forecast(result, held.expected_gap, held.expected_tokens)


def _forecast(result: Result, expected: tuple[float, float, float], tokens: int) -> str:
    """The forecast of the first round and its outcome; a round that ended early is not judged by its forecast."""
    first, chance = result.rounds[0], result.planned.expected_chance if result.planned else None
    match = "" if chance is None or result.outcome == "fitted" else f", with a chance of {100 * chance:.0f}% to match"
    (low, _, high), gap = expected, first.decisive
    beside = "above" if gap.mean > high else "below" if gap.mean < low else "within"
    came = f"the gap came to {words.interval(gap, 3)}, {beside} the 80% interval"
    if first.tokens < tokens:
        came = f"the round ended after {words.large_number(first.tokens)} tokens, at {words.interval(gap, 3)}"
    return (
        f"Before any cut was measured, the plan expected {gap_told(expected)} of {plural(first.depth, 'block')} after a round of"
        f" {words.large_number(tokens)} tokens{match}; {came}"
    )


def _paid(cost: float | None) -> str:
    return "" if cost is None else f", at a cost of {cost:,.2f}"


def _beside(own: Footprint, other: Footprint) -> str:
    """The target's bytes against the reference's: in per cent, which would mean nothing if only the reference's are packed."""
    if other.packed:
        return f"the reference's are packed in {words.size(other.weight_bytes)}"
    return _change(own.weight_bytes, other.weight_bytes)


def _change(own: int, whole: int) -> str:
    return f"{words.signed(100 * (own / whole - 1), 0)}%"


def _cache(found: RunEstimate) -> str:
    own, whole = (model.footprint.cache_bytes_per_token for model in (found.target, found.reference))
    return f", {words.size(own)} of KV cache per token ({_change(own, whole)})" if own and whole else ""
