"""What a criterion gives: the order in which the reference's blocks can go, and why."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Blocks of the reference in the order of their removal: growing takes them back in the opposite order.

    `flops` and `tokens` are what the criterion itself spent on forward passes.
    """

    method: str
    reason: str
    depth: int
    order: tuple[int, ...]
    tokens: int = 0
    flops: float = 0.0

    def blocks(self, depth: int) -> list[int]:
        """The blocks of a target of this depth."""
        gone = set(self.order[: self.depth - depth])
        return [block for block in range(self.depth) if block not in gone]


def by_score(scores: Sequence[float]) -> tuple[int, ...]:
    """Blocks from the least score to the greatest; of equals the deeper one first."""
    return tuple(sorted(range(len(scores)), key=lambda block: (scores[block], -block)))
