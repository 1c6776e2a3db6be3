"""From measured losses to a depth and blocks to start from, with the reason in a sentence."""

from inheritune.blocks.blockmap import show
from inheritune.diagnosis.profile import Curves, Cut, Layer, Suggestion

# A judgement from one trial, not a fit: a 24-block model's 20-block cut that started at +0.21 nats ended at +0.013.
LARGEST_RISE = 0.25


def suggest(layers: list[Layer], curves: Curves | None) -> Suggestion:
    """The smallest depth whose best measured cut starts at most `LARGEST_RISE` nats above the whole model."""
    depth = len(layers)
    if curves is None:
        return Suggestion(
            depth=depth, blocks=list(range(depth)), reason=_unmeasured(layers), rests_on="attention maps only"
        )
    cuts = [*curves.first, *curves.run, *curves.scattered]
    fitting = [cut for cut in cuts if cut.rise + cut.rise_se <= LARGEST_RISE]
    rests_on = f"losses of {len(cuts)} cuts on {curves.sequences} sequences, none of them trained"
    if not fitting:
        blocks = list(range(depth))
        return Suggestion(depth=depth, blocks=blocks, reason=_no_room(cuts, layers), rests_on=rests_on)
    best = min(fitting, key=lambda cut: (len(cut.blocks), cut.rise))
    return Suggestion(
        depth=len(best.blocks), blocks=best.blocks, reason=_reason(best, curves, layers), rests_on=rests_on
    )


def _reason(best: Cut, curves: Curves, layers: list[Layer]) -> str:
    gone = [layer.index for layer in layers if layer.index not in best.blocks]
    first = curves.first[best.removed - 1]
    return (
        f"without blocks {show(gone)} the loss rises by {best.rise:.3f} ± {best.rise_se:.3f} nats before any training, "
        f"where the first {len(best.blocks)} blocks alone rise by {first.rise:.2f}; {_lazy(layers)}."
    )


def _no_room(cuts: list[Cut], layers: list[Layer]) -> str:
    if not cuts:
        return "a single block leaves nothing to remove."
    least = min(cuts, key=lambda cut: cut.rise)
    return (
        f"no measured cut starts within {LARGEST_RISE} nats of the whole (the least costly, {len(least.blocks)} blocks, "
        f"rises by {least.rise:.2f}); {_lazy(layers)}."
    )


def _unmeasured(layers: list[Layer]) -> str:
    return f"no cut was run, so none is suggested; {_lazy(layers)}."


def _lazy(layers: list[Layer]) -> str:
    strict = [layer.index for layer in layers if layer.lazy]
    mostly = [layer.index for layer in layers if layer.lazy_share is not None and layer.lazy_share >= 0.5]
    named = f"layers {show(mostly)} have" if mostly else "no layer has"
    return f"{len(strict)} of {len(layers)} layers are lazy in the strict sense and {named} a majority of rank-1 heads"
