"""How many tokens each phase of a method has, so that methods are equal in tokens, in training FLOPs, or in all FLOPs."""

import math
from collections.abc import Sequence
from typing import Literal

Budget = Literal["tokens", "flops", "total-flops"]


def phase_tokens(
    shares: Sequence[float], per_token: Sequence[float], prepared: float, tokens: int, batch: int, most: float | None
) -> list[int]:
    """Tokens of each phase, in whole batches.

    `shares` are of `tokens`, `per_token` the training FLOPs of a token in each phase, `prepared` the FLOPs spent before.
    `most`: the FLOPs that phases and preparation may spend together; None: the shares stand as they are.
    """
    scale = 1.0
    if most is not None:
        wanted = sum(share * cost for share, cost in zip(shares, per_token, strict=True)) * tokens
        scale = max(0.0, most - prepared) / wanted
    return [max(1, math.floor(scale * share * tokens / batch + 0.5)) * batch for share in shares]
