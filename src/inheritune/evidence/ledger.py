"""What a run spent, by phase: tokens, FLOPs and seconds. Sums of what each stage wrote down, so that a stop loses nothing."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spent:
    """Tokens read, FLOPs of matrix products, seconds of wall clock."""

    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.tokens + other.tokens, self.flops + other.flops, self.seconds + other.seconds)


def ledger(entries: Iterable[tuple[str, Spent]]) -> dict[str, dict]:
    """Entries (phase, spent) as `{"phases": {phase: sums}, "total": sums}`."""
    phases: dict[str, Spent] = {}
    for phase, spent in entries:
        phases[phase] = phases.get(phase, Spent()) + spent
    total = sum(phases.values(), Spent())
    return {"phases": {name: asdict(spent) for name, spent in phases.items()}, "total": asdict(total)}
