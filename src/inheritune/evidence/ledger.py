"""What a run spent, by phase: tokens, FLOPs and seconds. Sums of what each stage wrote down, so that a stop loses nothing."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol


class Cost(Protocol):
    """Whatever took tokens, FLOPs and seconds."""

    @property
    def tokens(self) -> int:
        """Tokens read."""

    @property
    def flops(self) -> float:
        """FLOPs of matrix products."""

    @property
    def seconds(self) -> float:
        """Seconds of wall clock."""


@dataclass(frozen=True)
class Spent:
    """Tokens read, FLOPs of matrix products, seconds of wall clock."""

    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: Cost) -> "Spent":
        return Spent(self.tokens + other.tokens, self.flops + other.flops, self.seconds + other.seconds)


def ledger(entries: Iterable[tuple[str, Cost]]) -> dict[str, dict]:
    """Entries (phase, cost) as `{"phases": {phase: sums}, "total": sums}`."""
    phases: dict[str, Spent] = {}
    for phase, cost in entries:
        phases[phase] = phases.get(phase, Spent()) + cost
    total = sum(phases.values(), Spent())
    return {"phases": {name: asdict(spent) for name, spent in phases.items()}, "total": asdict(total)}
