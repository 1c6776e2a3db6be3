"""How many tokens each phase of a method has, so that methods are equal in tokens, in training FLOPs, or in all FLOPs."""

import math
from collections.abc import Sequence
from typing import Literal

Budget = Literal["tokens", "flops", "total-flops"]


def phase_tokens(
    shares: Sequence[float], per_token: Sequence[float], prepared: float, tokens: int, batch: int, most: float | None
) -> list[int]:
    """Tokens of each phase, in whole batches.

    `shares` are each phase's share of `tokens`, `per_token` its training FLOPs a token, and `prepared` the FLOPs spent before
    training. `most` limits the FLOPs of preparation and all phases; with None only the shares count.
    """
    scale = 1.0
    if most is not None:
        wanted = sum(share * cost for share, cost in zip(shares, per_token, strict=True)) * tokens
        scale = max(0.0, most - prepared) / wanted
    return [max(1, math.floor(scale * share * tokens / batch + 0.5)) * batch for share in shares]
