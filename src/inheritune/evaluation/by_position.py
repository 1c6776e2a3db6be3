"""Mean loss by a token's position in its window: what a model gains from context."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np


@dataclass(frozen=True)
class Band:
    """Positions `first` to `last` of a window (from 0): their mean loss in nats per token, and how many tokens it rests on."""

    first: int
    last: int
    loss: float
    tokens: int


def by_position(losses: Sequence[np.ndarray]) -> list[Band]:
    """Mean loss in bands of positions that double in width (0, 1, 2-3, 4-7, ...)."""
    places = []
    for first, last in bands(max(map(len, losses)), 1):
        held = np.concatenate([row[first : last + 1] for row in losses])
        places.append(Band(first, last, float(held.mean()), len(held)))
    return places


def bands(length: int, width: int) -> list[tuple[int, int]]:
    """First and last position of bands over `length` positions: the first is `width` wide, each further one as wide as all before it."""
    edges = [0]
    while edges[-1] < length:
        edges.append(max(width, 2 * edges[-1]))
    return [(first, min(end, length) - 1) for first, end in pairwise(edges)]
