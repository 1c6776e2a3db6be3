"""What the columns of an attention map say: dominant mass m*, sinks, entropy, the previous token.

Shapes: B sequences, H heads, T tokens (queries in rows, keys in columns).
"""

import torch
from torch import Tensor


def column_energies(maps_BHTT: Tensor) -> Tensor:
    """Squared norm of every column, (B, H, T) in float64."""
    return maps_BHTT.float().square().sum(-2, dtype=torch.float64)


def dominant_mass(energies_BHT: Tensor, threshold: float) -> Tensor:
    """m*: the least number of columns, largest first, that hold `threshold` of the map's squared norm (paper, section 2).

    Takes `column_energies`; gives (B, H) integers.
    """
    held_BHT = energies_BHT.sort(-1, descending=True).values.cumsum(-1)
    return (held_BHT < threshold * held_BHT[..., -1:]).sum(-1) + 1


def sink_shares(maps_BHTT: Tensor) -> tuple[Tensor, Tensor]:
    """Attention that goes to the first key, and to the key that gets most, as a mean over queries: two (B, H).

    The first query, which can only attend to itself, is left out here and below.
    """
    share_BHT = maps_BHTT[..., 1:, :].mean(-2, dtype=torch.float32)
    return share_BHT[..., 0], share_BHT.amax(-1)


def entropy(maps_BHTT: Tensor) -> Tensor:
    """Mean entropy of a query's attention, in nats, (B, H)."""
    return torch.special.entr(maps_BHTT[..., 1:, :].float()).sum(-1).mean(-1)


def previous_token_share(maps_BHTT: Tensor) -> Tensor:
    """Mean attention to the token just before, (B, H)."""
    return maps_BHTT.diagonal(offset=-1, dim1=-2, dim2=-1).mean(-1, dtype=torch.float32)
