"""Closed-form repair: the block before each gap of a cut is refitted to the reference's own hidden states.

The matrix that closes that block's MLP (`refit.py`) is fitted by ridge regression, so that the block's output is what the removed
run of the reference's blocks gave. Only forward passes are needed, and the model's architecture stays the same.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import block_flops_per_token
from inheritune.decoder.stack import CHUNK_TOKENS, Stack, evaluating, run_until
from inheritune.disk.kept import ids_digest
from inheritune.errors import ModelError
from inheritune.progress import Tally, silent
from inheritune.records.model_folder import Healing
from inheritune.runtime.device import room_for
from inheritune.surgery.kept_tensors import KeptTensors
from inheritune.surgery.refit import refit

EXACT = {torch.float32, torch.float64}
_SPENT = "spent"
# Shapes: B sequences, T tokens, D hidden width.


def heal(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    blocks: Sequence[int],
    tokens_BT: Tensor,
    *,
    unasked: int = 0,
    count: Tally = silent,
    kept: Path | None = None,
    made_of: str = "",
) -> Healing:
    """Refit `target`, which holds the reference's `blocks`, in place, on `tokens_BT` (B, T).

    With at least eight sequences the last eighth is held out from the fit, and the losses are measured on it; they leave out a
    sequence's first token and the `unasked` after it. `count` counts passes through the reference and the target's blocks. Results are
    kept in the folder `kept`, so that they are not computed again after a stop; the caller removes it. `made_of` identifies the
    reference, since another's repair may be kept there. If the target is on a GPU, only one of the two models is there at a time, the
    other in the CPU's memory. Raises ModelError for a model in less than float32, in which differences of passes are not exact
    enough, and for one whose MLP ends in nothing that can be refitted in closed form.
    """
    if {parameter.dtype for model in (target, reference) for parameter in model.parameters()} - EXACT:
        raise ModelError("Only models in float32 can be healed: call .float() on both first.")
    fit_BT, held_BT = _split(tokens_BT)
    gaps, cost = dict(find_gaps(blocks, anatomy(reference).depth)), 0.0
    with room_for([target], [reference], target.device):
        before = Stack(target, held_BT, unasked)
        if gaps:
            question = (made_of, list(blocks), ids_digest(fit_BT.tolist()), before.whole_losses.tolist())
            results = KeptTensors(kept, repr(question))
            cost = _close(gaps, target, reference, fit_BT, results, count)
        after = Stack(target, held_BT, unasked)
    won = (before.whole_losses.mean().item(), after.whole_losses.mean().item())
    return Healing(*won, list(gaps), fit_BT.numel(), round(cost + before.flops + after.flops))


def find_gaps(blocks: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """Return the gaps as (place, last): after `place` the reference's blocks up to and including `last` are missing."""
    following = [*blocks[1:], depth]
    pairs = enumerate(zip(blocks, following, strict=True))
    return [(place, after - 1) for place, (block, after) in pairs if after > block + 1]


def _split(tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    held = tokens_BT.shape[0] // 8
    return (tokens_BT[:-held], tokens_BT[-held:]) if held else (tokens_BT, tokens_BT)


def _close(
    gaps: dict[int, int],
    target: PreTrainedModel,
    reference: PreTrainedModel,
    tokens_BT: Tensor,
    results: KeptTensors,
    count: Tally,
) -> float:
    """Refit the target at every gap and return the FLOPs; `gaps` maps a place to the last of the reference's blocks missing after it."""
    parts = tokens_BT.split(max(1, CHUNK_TOKENS // tokens_BT.shape[1]))
    passes = len(parts) + max(gaps) + 1
    with room_for([reference], [target], target.device):
        wanted = _hidden_after(reference, set(gaps.values()), parts, results, lambda done: count(done, passes))
    stack, flops = Stack(target, tokens_BT, losses=False), 0.0
    below_BTD = stack.hidden0
    for place in range(max(gaps) + 1):  # bottom up, so that each gap is fitted on the output of the repairs below it
        if place in gaps:
            flops += _refit(stack, place, below_BTD, wanted[gaps[place]], results)
        below_BTD = stack.run(below_BTD, [place])
        count(len(parts) + place + 1, passes)
    through = anatomy(reference).blocks[: max(gaps.values()) + 1]
    each = sum(block_flops_per_token(block, reference.config, tokens_BT.shape[1]) for block in through)
    return flops + stack.flops + tokens_BT.numel() * each


def _hidden_after(
    reference: PreTrainedModel,
    lasts: set[int],
    parts: Sequence[Tensor],
    results: KeptTensors,
    count: Callable[[int], None],
) -> dict[int, Tensor]:
    """The reference's hidden states (B, T, D) after each of these blocks."""
    blocks, head = anatomy(reference).blocks, anatomy(reference).head
    end = blocks[max(lasts) + 1] if max(lasts) + 1 < len(blocks) else head

    def measure(tokens_BT: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        with ExitStack() as hooks, evaluating(reference):
            for last in lasts:

                def see(_block: nn.Module, _args: Any, output: Any, name: str = str(last)) -> None:
                    found[name] = output[0] if isinstance(output, tuple | list) else output

                hooks.callback(blocks[last].register_forward_hook(see).remove)
            run_until(reference, end, tokens_BT.to(reference.device))
        return found

    count(0)
    seen = []
    for done, part in enumerate(parts, 1):
        seen.append(results.get(f"reference-{done}", partial(measure, part)))
        count(done)
    return {last: torch.cat([each[str(last)] for each in seen]).to(reference.device) for last in lasts}


def _refit(stack: Stack, place: int, below_BTD: Tensor, wanted_BTD: Tensor, results: KeptTensors) -> float:
    """Refit one block, or load its kept weights; return the fit's FLOPs. The stack counts its passes either way."""
    block, before = stack.blocks[place], stack.block_passes

    def fit() -> dict[str, Tensor]:
        flops = refit(stack, place, below_BTD, wanted_BTD)
        spent = torch.tensor([flops, stack.block_passes - before], dtype=torch.float64)
        return {_SPENT: spent} | {name: weights.detach() for name, weights in block.named_parameters()}

    found = results.get(f"block-{place}", fit)
    flops, passes = found[_SPENT].tolist()
    stack.block_passes = before + int(passes)
    with torch.no_grad():
        for name, weights in block.named_parameters():
            weights.copy_(found[name])
    return float(flops)
