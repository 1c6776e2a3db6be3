"""Closed-form repair: the block before each gap of a cut is refitted to the reference's own hidden states.

The matrix that closes that block's MLP (`down_proj` or its like) is fitted by ridge, so that the block gives
what the removed run of the reference gave. Only forward passes are needed, and the model stays a stock one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.blocks.anatomy import anatomy
from inheritune.blocks.flops import block_flops_per_token, forward_flops_per_token
from inheritune.blocks.stack import Stack
from inheritune.errors import ModelError

# Shapes: B sequences, T tokens, N = B * T, D hidden width, I inner width of the MLP (plus one for a bias).

CLOSING = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2", "feed_forward.w2", "mlp.w2")
RIDGE = 0.01
STRAIGHT = 1e-3  # how far a block's output may be from linear in its closing matrix, relative


@dataclass(frozen=True)
class Healing:
    """What a repair did: mean loss in nats per token before and after, the places refitted, its cost."""

    loss_before: float
    loss_after: float
    places: list[int]
    tokens: int
    flops: int


def heal(target: PreTrainedModel, reference: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor) -> Healing:
    """Refit `target`, which holds the reference's `blocks`, in place, on `tokens_BT` (B, T).

    With at least eight sequences the last eighth is kept from the fit, and the losses are measured on it.
    Raises ModelError for a model whose MLP ends in no single matrix that is added to the residual.
    """
    fit_BT, held_BT = _split(tokens_BT)
    gaps = dict(find_gaps(blocks, anatomy(reference).depth))
    before = Stack(target, held_BT).whole_losses.mean().item()
    if gaps:
        wanted = _hidden_after(reference, set(gaps.values()), fit_BT)
        _sweep(target, {place: wanted[last] for place, last in gaps.items()}, fit_BT)
    after = Stack(target, held_BT).whole_losses.mean().item()
    cost = _flops(target, reference, gaps, fit_BT) + 2 * held_BT.numel() * _forward(target, held_BT)
    return Healing(before, after, list(gaps), fit_BT.numel(), cost)


def find_gaps(blocks: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """(place, last): after `place` the reference's blocks up to and with `last` are missing."""
    following = [*blocks[1:], depth]
    pairs = enumerate(zip(blocks, following, strict=True))
    return [(place, after - 1) for place, (block, after) in pairs if after > block + 1]


def closing_matrix(block: nn.Module, kind: str) -> nn.Linear | Conv1D:
    """The matrix that closes the block's MLP; raises ModelError if there is not one."""
    modules = dict(block.named_modules())
    for name in CLOSING:
        if isinstance(modules.get(name), nn.Linear | Conv1D):
            return modules[name]  # type: ignore[return-value]
    raise ModelError(f"Cannot heal {kind!r}: its blocks end in no single matrix (such as mlp.down_proj).")


def _split(tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
    held = tokens_BT.shape[0] // 8
    return (tokens_BT[:-held], tokens_BT[-held:]) if held else (tokens_BT, tokens_BT)


def _hidden_after(reference: PreTrainedModel, lasts: set[int], tokens_BT: Tensor) -> dict[int, Tensor]:
    """The reference's hidden states (B, T, D) after each of these blocks."""
    stack = Stack(reference, tokens_BT)
    hidden_BTD, held = stack.hidden0, {}
    for block in range(max(lasts) + 1):
        hidden_BTD = stack.run(hidden_BTD, [block])
        if block in lasts:
            held[block] = hidden_BTD
    return held


@torch.no_grad()
def _sweep(target: PreTrainedModel, wanted: dict[int, Tensor], tokens_BT: Tensor) -> None:
    """Refit from below, so that each gap is closed for the hidden states that the repair before it gives."""
    stack = Stack(target, tokens_BT)
    below_BTD = stack.hidden0
    for place in range(max(wanted) + 1):
        if place in wanted:
            _refit(stack, place, below_BTD, wanted[place])
        below_BTD = stack.run(below_BTD, [place])


def _refit(stack: Stack, place: int, below_BTD: Tensor, wanted_BTD: Tensor) -> None:
    matrix = closing_matrix(stack.blocks[place], stack.model.config.model_type)
    scale = _scale(stack, place, matrix, below_BTD)
    missing_ND = (wanted_BTD - stack.run(below_BTD, [place])).flatten(0, 1).double() / scale
    gram = _Gram(missing_ND)
    with _hooked(matrix, gram):
        stack.run(below_BTD, [place])
    _add(matrix, gram.ridge())


def _scale(stack: Stack, place: int, matrix: nn.Module, below_BTD: Tensor) -> float:
    """By how much the matrix's output is multiplied before it is added to the residual.

    Raises ModelError where that is not one number, as where the sum is normalised first.
    """
    given: list[Tensor] = []
    with _hooked(matrix, lambda _module, _args, output: given.append(output.clone())):
        whole_BTD = stack.run(below_BTD, [place])
    with _hooked(matrix, lambda _module, _args, output: output * 0):
        without_BTD = stack.run(below_BTD, [place])
    part_N = torch.cat([output.reshape(-1) for output in given]).double()
    moved_N = (whole_BTD - without_BTD).reshape(-1).double()
    scale = (moved_N @ part_N / (part_N @ part_N)).item()
    if not (moved_N - scale * part_N).norm() <= STRAIGHT * moved_N.norm():
        kind = stack.model.config.model_type
        raise ModelError(f"Cannot heal {kind!r}: its MLP's output is not added to the residual as it is.")
    return scale


class _Gram:
    """Sums what ridge needs, chunk by chunk, from what enters the matrix."""

    def __init__(self, missing_ND: Tensor) -> None:
        self.missing_ND = missing_ND
        self.seen = 0
        self.gram_II: Any = 0
        self.cross_ID: Any = 0

    def __call__(self, matrix: nn.Module, args: tuple[Tensor, ...], _output: Tensor) -> None:
        inner_NI = args[0].reshape(-1, args[0].shape[-1]).double()
        if matrix.bias is not None:
            inner_NI = F.pad(inner_NI, (0, 1), value=1.0)
        rows = self.missing_ND[self.seen : self.seen + len(inner_NI)]
        self.seen += len(inner_NI)
        self.gram_II = self.gram_II + inner_NI.T @ inner_NI
        self.cross_ID = self.cross_ID + inner_NI.T @ rows

    def ridge(self) -> Tensor:
        """The change of the matrix (I, D); the ridge pulls towards no change."""
        weight = RIDGE * self.gram_II.diagonal().mean()
        return torch.linalg.solve(self.gram_II + weight * torch.eye(*self.gram_II.shape).to(weight), self.cross_ID)


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _add(matrix: nn.Linear | Conv1D, change_ID: Tensor) -> None:
    if matrix.bias is not None:
        matrix.bias += change_ID[-1].to(matrix.bias.dtype)
        change_ID = change_ID[:-1]
    matrix.weight += (change_ID if isinstance(matrix, Conv1D) else change_ID.T).to(matrix.weight.dtype)


def _forward(model: PreTrainedModel, tokens_BT: Tensor) -> int:
    return forward_flops_per_token(model, tokens_BT.shape[1])


def _flops(target: PreTrainedModel, reference: PreTrainedModel, gaps: dict[int, int], fit_BT: Tensor) -> int:
    """Two passes of each model (one to record how its blocks are called), five of each refitted block."""
    if not gaps:
        return 0
    total = 2 * (_forward(target, fit_BT) + _forward(reference, fit_BT))
    for place in gaps:
        block = anatomy(target).blocks[place]
        inner, outer = max(shape := closing_matrix(block, "").weight.shape), min(shape)
        total += 4 * block_flops_per_token(block, target.config, fit_BT.shape[1]) + 2 * inner * (inner + outer)
    return total * fit_BT.numel()
