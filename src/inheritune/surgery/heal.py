"""Closed-form repair: the block before each gap of a cut is refitted to the reference's own hidden states.

What closes that block's MLP (`refit`) is fitted by ridge, so that the block gives what the removed run of the
reference gave. Only forward passes are needed, and the model stays a stock one.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import Stack
from inheritune.errors import ModelError
from inheritune.records.model_folder import Healing
from inheritune.surgery.refit import refit

EXACT = {torch.float32, torch.float64}
# Shapes: B sequences, T tokens, D hidden width.


def heal(
    target: PreTrainedModel, reference: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor, *, unasked: int = 0
) -> Healing:
    """Refit `target`, which holds the reference's `blocks`, in place, on `tokens_BT` (B, T).

    With at least eight sequences the last eighth is kept from the fit, and the losses are measured on it; they do not ask for
    a sequence's first token and the `unasked` after it.
    Raises ModelError for a model that is not in float32, in which alone differences of passes are exact enough, and
    for one whose MLP ends in nothing that can be refitted in closed form.
    """
    if {parameter.dtype for model in (target, reference) for parameter in model.parameters()} - EXACT:
        raise ModelError("Only models in float32 can be healed: call .float() on both first.")
    fit_BT, held_BT = _split(tokens_BT)
    gaps = dict(find_gaps(blocks, anatomy(reference).depth))
    before, cost = Stack(target, held_BT, unasked), 0.0
    if gaps:
        parent = Stack(reference, fit_BT)
        wanted = _hidden_after(parent, set(gaps.values()))
        cost = _sweep(target, {place: wanted[last] for place, last in gaps.items()}, fit_BT) + parent.flops
    after = Stack(target, held_BT, unasked)
    won = (before.whole_losses.mean().item(), after.whole_losses.mean().item())
    return Healing(*won, list(gaps), fit_BT.numel(), round(cost + before.flops + after.flops))


def find_gaps(blocks: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """(place, last): after `place` the reference's blocks up to and with `last` are missing."""
    following = [*blocks[1:], depth]
    pairs = enumerate(zip(blocks, following, strict=True))
    return [(place, after - 1) for place, (block, after) in pairs if after > block + 1]


def _split(tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    held = tokens_BT.shape[0] // 8
    return (tokens_BT[:-held], tokens_BT[-held:]) if held else (tokens_BT, tokens_BT)


def _hidden_after(stack: Stack, lasts: set[int]) -> dict[int, Tensor]:
    """The reference's hidden states (B, T, D) after each of these blocks."""
    hidden_BTD, held = stack.hidden0, {}
    for block in range(max(lasts) + 1):
        hidden_BTD = stack.run(hidden_BTD, [block])
        if block in lasts:
            held[block] = hidden_BTD
    return held


def _sweep(target: PreTrainedModel, wanted: dict[int, Tensor], tokens_BT: Tensor) -> float:
    """Refit from below, so that each gap is closed for what the repair before it gives; returns the FLOPs."""
    stack, flops = Stack(target, tokens_BT), 0.0
    below_BTD = stack.hidden0
    for place in range(max(wanted) + 1):
        if place in wanted:
            flops += refit(stack, place, below_BTD, wanted[place])
        below_BTD = stack.run(below_BTD, [place])
    return flops + stack.flops
