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


def why_other_tokens(budget: Budget, own: bool) -> str:
    """Say why a method trains on other than `training.tokens` tokens; `own`: its budget is its own and not the recipe's."""
    if own:
        return "it trains until it has spent in all what `inheritune` spends"
    return {
        "tokens": "by the shares that its phases have of them, in whole batches",
        "flops": "methods are equal in training FLOPs, a teacher's passes counted, in whole batches",
        "total-flops": "methods are equal in all FLOPs, what a start costs and a teacher's passes counted, in whole batches",
    }[budget]
