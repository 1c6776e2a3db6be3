"""What depends on the device: which attention, how many rows at once, how a product's gradient is added. The seam for kernels.

N rows, D hidden size, V vocabulary.
"""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.config.sections import Objective
from inheritune.training.attention import in_strips
from inheritune.training.terms import OF_ROWS, TAUGHT
from inheritune.training.terms.rows import Rows

_IN_CACHE = 1 << 20  # numbers at once on the CPU: a few megabytes of fp32
_TILE = 1 << 12  # rows of the weight whose gradient is added at once on the CPU: it does not leave the cache in between


def attending(model: PreTrainedModel, precision: str) -> AbstractContextManager[None]:
    """While the block runs, `model` uses the attention that is fastest where it is; forward and backward pass alike."""
    return in_strips(model, precision)


def row_losses(
    logits_NV: Tensor, labels_N: Tensor, teacher_NV: Tensor | None, wanted: Objective, scale: float = 1.0
) -> dict[str, Tensor]:
    """Sums over rows of each term, not yet weighted; `logits_NV` is overwritten by `scale` times the weighted sum's gradient."""
    count = max(1, len(logits_NV))  # without rows, sums of nothing
    rows = max(1, _IN_CACHE // logits_NV.shape[1]) if logits_NV.device.type == "cpu" else count
    sums: dict[str, Tensor] = {}
    for first in range(0, count, rows):
        piece = slice(first, first + rows)
        taught = None if teacher_NV is None else teacher_NV[piece].float()
        parts, gradient = _of_piece(Rows(logits_NV[piece].float(), labels_N[piece], taught, wanted))
        logits_NV[piece] = gradient.mul_(scale)
        sums = {name: sums.get(name, 0.0) + value.sum(dtype=torch.float64) for name, value in parts.items()}
    return sums


def _of_piece(rows: Rows) -> tuple[dict[str, Tensor], Tensor]:
    """Each term of a piece that has a weight, cross-entropy always, and the gradient of their weighted sum."""
    given = [name for name in OF_ROWS if rows.teacher_NV is not None or name not in TAUGHT]
    names = [name for name in given if rows.wanted.weights[name] or name == "cross_entropy"]
    found = {name: OF_ROWS[name](rows) for name in names}
    last = names[-1]
    weight, gradient = rows.wanted.weights[last], found[last][1]
    gradient = gradient.mul_(weight) if weight != 1 else gradient
    for name in names[:-1]:
        gradient.add_(found[name][1], alpha=rows.wanted.weights[name])
    return {name: found[name][0] for name in rows.wanted.weights if name in found}, gradient


def add_product(weight_VD: nn.Parameter, gradient_NV: Tensor, states: Tensor) -> None:
    """Add a product's gradient to its weight's, a tile of the weight at a time."""
    if fresh := weight_VD.grad is None:
        weight_VD.grad = torch.empty_like(weight_VD)
    assert weight_VD.grad is not None
    tile = _TILE if weight_VD.device.type == "cpu" else len(weight_VD)
    for own, part in zip(weight_VD.grad.split(tile), gradient_NV.split(tile, dim=1), strict=True):
        own.copy_(part.T @ states) if fresh else own.add_(part.T @ states)
