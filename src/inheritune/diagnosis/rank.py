"""Approximate rank k*, exact and fast.

Shapes: B sequences, H heads, T tokens.
"""

import torch
from torch import Tensor


def approximate_rank(maps_BHTT: Tensor, threshold: float) -> Tensor:
    """k*: the least k whose largest squared singular values hold `threshold` of their sum (paper, section 2): (B, H)."""
    maps = maps_BHTT.double()
    values = torch.linalg.eigvalsh(maps.mT @ maps).clamp(min=0).flip(-1)
    held = values.cumsum(-1)
    return (held < threshold * held[..., -1:]).sum(-1) + 1
