"""Suggest a depth and the blocks to start from, by measured losses, with the reason in a sentence."""

from inheritune.diagnosis.layers import LAZY_RANK
from inheritune.records.profile import Curves, Cut, Layer, Suggestion
from inheritune.words import nouns, plural, show

# A judgement from one trial, not a fit: a 24-block model's 20-block cut that started at +0.21 nats ended at +0.013.
LARGEST_RISE = 0.25

# A model is at chance if its loss is at least this share of a uniform guess's.
CHANCE = 0.9


def at_chance(loss: float, chance: float) -> bool:
    """Whether a loss is hardly below `chance`, the loss ln V of a uniform guess among V tokens."""
    return loss >= CHANCE * chance


def fits(cut: Cut) -> bool:
    """Whether a cut starts near enough to the whole model to be suggested, its standard error included."""
    return cut.rise + cut.rise_se <= LARGEST_RISE


def suggest(layers: list[Layer], curves: Curves | None, loss: float, chance: float) -> Suggestion:
    """The smallest depth whose best measured cut starts at most `LARGEST_RISE` nats above the whole model.

    No depth is suggested for a model whose `loss` is at `chance`: there the cost of cuts means nothing.
    """
    if at_chance(loss, chance):
        return _none(_guesses(loss, chance, layers), "the model's loss alone")
    if curves is None or (curves.left_out and not curves.first):
        return _none(_unmeasured(layers), "attention maps only")
    cuts = [*curves.first, *curves.run, *curves.scattered]
    fitting = [cut for cut in cuts if fits(cut)]
    rests_on = _rests_on(curves)
    if not fitting:
        return _none(_no_room(cuts, curves, layers), rests_on)
    best = min(fitting, key=lambda cut: (len(cut.blocks), cut.rise))
    return Suggestion(
        depth=len(best.blocks), blocks=best.blocks, reason=_reason(best, curves, layers), rests_on=rests_on
    )


def _none(reason: str, rests_on: str) -> Suggestion:
    return Suggestion(depth=None, blocks=None, reason=reason, rests_on=rests_on)


def _rests_on(curves: Curves) -> str:
    """What was measured, and what the time was too short for."""
    read = f"{plural(curves.sequences, 'sequence')} of {plural(curves.tokens // max(1, curves.sequences), 'token')}"
    places = f", each at {curves.places} of them or more" if curves.places else ""
    late = "; there was no time to tell apart those that are nearly equal" if curves.cut_short else ""
    late = f"; {plural(curves.left_out, 'other')} had no time" if curves.left_out else late
    return f"losses of {plural(curves.measured, 'cut')}, none of them trained, on {read}{places}{late}"


def _reason(best: Cut, curves: Curves, layers: list[Layer]) -> str:
    gone = [layer.index for layer in layers if layer.index not in best.blocks]
    first = curves.first[best.removed - 1]
    return (
        f"without {_named('block', gone)} the loss {_changes(best.rise, 3)}{_error(best, curves, 3)} before any training, "
        f"and with {_first(len(best.blocks))} it {_changes(first.rise, 2)}; {_lazy(layers)}."
    )


def _no_room(cuts: list[Cut], curves: Curves, layers: list[Layer]) -> str:
    if not cuts:
        return "a single block leaves nothing to remove."
    least = min(cuts, key=lambda cut: cut.rise + cut.rise_se)
    return (
        f"no measured cut starts within {LARGEST_RISE} nats of the whole, standard error included: with the least costly, of "
        f"{plural(len(least.blocks), 'block')}, the loss {_changes(least.rise, 2)}{_error(least, curves, 2)}; {_lazy(layers)}."
    )


def _error(cut: Cut, curves: Curves, digits: int) -> str:
    """A rise's standard error, as text; empty for a single sequence, which has none."""
    return f" (± {cut.rise_se:.{digits}f})" if curves.sequences > 1 else ""


def _changes(rise: float, digits: int) -> str:
    """How a loss changes, in words that fit its sign; a change that rounds to zero has no sign."""
    size = f"{abs(rise):.{digits}f}"
    if float(size) == 0:
        return "stays as it is"
    return f"{'rises' if rise > 0 else 'falls'} by {size} nats"


def _first(count: int) -> str:
    return f"the first {count} blocks alone" if count > 1 else "the first block alone"


def _named(noun: str, indices: list[int]) -> str:
    return f"{nouns(len(indices), noun)} {show(indices)}"


def _guesses(loss: float, chance: float, layers: list[Layer]) -> str:
    return (
        f"the model is at chance on this text: its loss of {loss:.2f} nats is {loss / chance:.0%} of a uniform guess's {chance:.2f}, "
        f"so what a cut costs says nothing; {_lazy(layers)}."
    )


def _unmeasured(layers: list[Layer]) -> str:
    return f"no cut was run; {_lazy(layers)}."


def _lazy(layers: list[Layer]) -> str:
    """The layers whose heads are all lazy, those with at least half, and those that are lazy in the strict sense."""
    shares = {layer.index: layer.lazy_share for layer in layers if layer.lazy_share is not None}
    if not shares:
        return "no layer has softmax attention"
    whole = [index for index, share in shares.items() if share == 1]
    half = [index for index, share in shares.items() if 0.5 <= share < 1]
    strict = [layer.index for layer in layers if layer.lazy]
    counted = (("all heads", whole), ("at least half of the heads", half))
    named = [f"{count} in {_named('layer', found)}" for count, found in counted if found]
    heads = " and ".join(named) or "fewer than half of the heads in each layer"
    strictly = f"{_named('layer', strict) if strict else 'no layer'} {'are' if len(strict) > 1 else 'is'}"
    return f"{heads} are lazy (mean k* up to {LAZY_RANK}); {strictly} lazy in the strict sense"
