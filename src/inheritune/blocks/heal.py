"""Closed-form repair around a cut: the block before each gap is refitted to the reference's own hidden states.

The matrix that closes that block's MLP (`down_proj` or its like) is fitted by ridge, so that the block gives what
the removed run of the reference gave. Only forward passes are needed, and the model stays a stock one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.blocks.anatomy import anatomy, text_config
from inheritune.blocks.flops import forward_flops_per_token
from inheritune.blocks.trace import hidden_after, hooked
from inheritune.errors import ModelError

# Shapes: B sequences, T tokens, N = B * T, D hidden width, I inner width of the MLP (plus one for a bias).

CLOSING = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2", "feed_forward.w2", "mlp.w2")
RIDGE = 0.01


@dataclass(frozen=True)
class Healing:
    """What a repair did: mean loss in nats per token before and after, the places refitted, its cost."""

    loss_before: float
    loss_after: float
    places: list[int]
    tokens: int
    flops: int


def heal(
    target: PreTrainedModel, reference: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor
) -> Healing:
    """Refit `target`, which holds the reference's `blocks`, in place, on `tokens_BT` (B, T).

    With at least eight sequences the last eighth is kept from the fit, and the losses are those of that eighth.
    Raises ModelError for a model whose MLP ends in no single matrix that is added to the residual.
    """
    fit_BT, held_BT = _split(tokens_BT)
    before = _loss(target, held_BT)
    gaps = find_gaps(blocks, anatomy(reference).depth)
    for place, last in gaps:
        _refit(target, reference, place, last, fit_BT)
    flops = _flops(target, reference, gaps, fit_BT, held_BT)
    return Healing(before, _loss(target, held_BT), [place for place, _ in gaps], fit_BT.numel(), flops)


def find_gaps(blocks: Sequence[int], depth: int) -> list[tuple[int, int]]:
    """(place, last): after `place` the reference's blocks up to and with `last` are missing."""
    following = [*blocks[1:], depth]
    return [
        (place, after - 1)
        for place, (block, after) in enumerate(zip(blocks, following, strict=True))
        if after > block + 1
    ]


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


@torch.no_grad()
def _refit(
    target: PreTrainedModel, reference: PreTrainedModel, place: int, last: int, fit_BT: Tensor
) -> None:
    matrix = closing_matrix(anatomy(target).blocks[place], target.config.model_type)
    scale = float(getattr(text_config(target.config), "residual_multiplier", 1.0))
    gram_II, cross_ID = 0.0, 0.0
    for tokens_BT in fit_BT.split(_rows(fit_BT)):
        inner_NI, hidden_ND = _inside(target, place, matrix, tokens_BT)
        wanted_ND = hidden_after(reference, last, tokens_BT).flatten(0, 1)
        missing_ND = (wanted_ND.double() - hidden_ND.double()) / scale
        gram_II = gram_II + inner_NI.T @ inner_NI
        cross_ID = cross_ID + inner_NI.T @ missing_ND
    assert isinstance(gram_II, Tensor)
    _add(matrix, _ridge(gram_II, cross_ID))


def _rows(tokens_BT: Tensor) -> int:
    return max(1, 4096 // tokens_BT.shape[1])


def _inside(
    model: PreTrainedModel, place: int, matrix: nn.Module, tokens_BT: Tensor
) -> tuple[Tensor, Tensor]:
    """What enters the matrix (a column of ones beside it if it has a bias), and the block's output."""
    entered: list[Tensor] = []

    def keep(module: nn.Module, args: Any, kwargs: Any) -> None:
        entered.append(args[0])

    with hooked(matrix, keep, before=True):
        hidden_BTD = hidden_after(model, place, tokens_BT)
    inner_NI = entered[0].reshape(-1, entered[0].shape[-1]).double()
    if matrix.bias is not None:
        inner_NI = F.pad(inner_NI, (0, 1), value=1.0)
    return inner_NI, hidden_BTD.flatten(0, 1)


def _ridge(gram_II: Tensor, cross_ID: Any) -> Tensor:
    """The change of the matrix (I, D): the ridge pulls towards no change."""
    weight = RIDGE * gram_II.diagonal().mean()
    return torch.linalg.solve(gram_II + weight * torch.eye(len(gram_II), dtype=gram_II.dtype), cross_ID)


def _add(matrix: nn.Linear | Conv1D, change_ID: Tensor) -> None:
    if matrix.bias is not None:
        matrix.bias += change_ID[-1].to(matrix.bias.dtype)
        change_ID = change_ID[:-1]
    matrix.weight += (change_ID if isinstance(matrix, Conv1D) else change_ID.T).to(matrix.weight.dtype)


@torch.no_grad()
def _loss(model: PreTrainedModel, tokens_BT: Tensor) -> float:
    total = 0.0
    for rows_BT in tokens_BT.split(_rows(tokens_BT)):
        logits_BTV = model(rows_BT, use_cache=False).logits[:, :-1].float()
        total += F.cross_entropy(logits_BTV.flatten(0, 1), rows_BT[:, 1:].flatten(), reduction="sum").item()
    return total / tokens_BT[:, 1:].numel()


def _flops(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    gaps: list[tuple[int, int]],
    fit_BT: Tensor,
    held_BT: Tensor,
) -> int:
    """Forward passes up to each gap, the Gram matrices, and the two passes that measure the loss."""
    length = fit_BT.shape[1]
    own, parent = (forward_flops_per_token(model, length) for model in (target, reference))
    depth, parent_depth = anatomy(target).depth, anatomy(reference).depth
    total = 2 * held_BT.numel() * own
    for place, last in gaps:
        matrix = closing_matrix(anatomy(target).blocks[place], target.config.model_type)
        inner = max(matrix.weight.shape)
        passes = own * (place + 1) / depth + parent * (last + 1) / parent_depth
        total += round(fit_BT.numel() * (passes + 2 * inner * (inner + min(matrix.weight.shape))))
    return total
