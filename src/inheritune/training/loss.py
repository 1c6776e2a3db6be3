"""Losses of rows of logits with their gradients, written out, so that no graph has to keep the logits.

N rows, V vocabulary. Gradients are of the sum over rows. The temperature's square keeps a distillation term's gradient as
large as at 1.
"""

import torch
from torch import Tensor

from inheritune.config.sections import Objective

_IN_CACHE = 1 << 20  # numbers at once on the CPU: a few megabytes of fp32


def differentiate(
    logits_NV: Tensor, labels_N: Tensor, teacher_NV: Tensor | None, wanted: Objective, scale: float = 1.0
) -> dict[str, Tensor]:
    """Sums over rows of each part of the loss; `logits_NV` is overwritten by `scale` times the gradient of their weighted sum.

    Parts: `cross_entropy`, and with a teacher's logits `distillation`, both in nats, not yet weighted.
    """
    rows = max(1, _IN_CACHE // logits_NV.shape[1]) if logits_NV.device.type == "cpu" else len(logits_NV)
    sums: dict[str, Tensor] = {}
    for first in range(0, len(logits_NV), rows):
        piece = slice(first, first + rows)
        taught = None if teacher_NV is None else teacher_NV[piece].float()
        logits = logits_NV[piece].float()
        parts, gradient = _row_losses(logits, labels_N[piece], taught, wanted)
        logits_NV[piece] = gradient.mul_(scale)
        sums = {name: sums.get(name, 0.0) + value.sum(dtype=torch.float64) for name, value in parts.items()}
    return sums


def _row_losses(
    logits_NV: Tensor, labels_N: Tensor, teacher_NV: Tensor | None, wanted: Objective
) -> tuple[dict[str, Tensor], Tensor]:
    if teacher_NV is None:
        loss, gradient = cross_entropy(logits_NV, labels_N)
        return {"cross_entropy": loss}, gradient.mul_(wanted.cross_entropy) if wanted.cross_entropy != 1 else gradient
    taught, pull = divergence(logits_NV, teacher_NV, wanted.temperature, wanted.direction)
    loss, gradient = cross_entropy(logits_NV, labels_N)
    gradient = gradient.mul_(wanted.cross_entropy).add_(pull, alpha=wanted.logits)
    return {"cross_entropy": loss, "distillation": taught}, gradient


def cross_entropy(logits_NV: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row, (N,), and its gradient, which takes the place of `logits_NV` (fp32)."""
    labels = labels_N[:, None]
    top, right = logits_NV.amax(1, keepdim=True), logits_NV.gather(1, labels)
    weights = logits_NV.sub_(top).exp_()
    sums = weights.sum(1, keepdim=True)
    gradient = weights.div_(sums).scatter_add_(1, labels, torch.full_like(top, -1.0))
    return (sums.log() + top - right)[:, 0], gradient


def divergence(student_NV: Tensor, teacher_NV: Tensor, temperature: float, direction: str) -> tuple[Tensor, Tensor]:
    """Temperature² times KL of each row, (N,), and its gradient for the student's logits.

    `forward` is KL(teacher ‖ student), which covers all that the teacher does; `reverse` is KL(student ‖ teacher).
    """
    ours = (student_NV / temperature).log_softmax(1)
    theirs = (teacher_NV / temperature).log_softmax(1)
    if direction == "forward":
        taught = theirs.exp()
        kl = (taught * (theirs - ours)).sum(1)
        return kl * temperature**2, (ours.exp() - taught) * temperature
    surprise, student = ours - theirs, ours.exp()
    kl = (student * surprise).sum(1)
    return kl * temperature**2, student * (surprise - kl[:, None]) * temperature
