"""Cross-entropy with the text."""

import torch
from torch import Tensor

from inheritune.training.terms.rows import Rows


def cross_entropy(rows: Rows) -> tuple[Tensor, Tensor]:
    """Cross-entropy of each row in nats, (N,), and its gradient (N, V), which overwrites the logits."""
    logits_NV, labels = rows.logits_NV, rows.labels_N[:, None]
    top, right = logits_NV.amax(1, keepdim=True), logits_NV.gather(1, labels)
    weights = logits_NV.sub_(top).exp_()
    sums = weights.sum(1, keepdim=True)
    gradient = weights.div_(sums).scatter_add_(1, labels, torch.full_like(top, -1.0))
    return (sums.log() + top - right)[:, 0], gradient
