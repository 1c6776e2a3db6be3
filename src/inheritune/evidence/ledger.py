"""What a run spent, by phase: tokens, FLOPs and seconds. Summed from what each stage recorded, so that a stop loses nothing."""

from collections.abc import Iterable
from typing import Protocol


class Costly(Protocol):
    """Anything that took tokens, FLOPs and seconds."""

    @property
    def tokens(self) -> int:
        """Tokens read."""

    @property
    def flops(self) -> float:
        """FLOPs of matrix products."""

    @property
    def seconds(self) -> float:
        """Seconds of wall clock."""


def ledger(entries: Iterable[tuple[str, Costly]]) -> dict[str, dict]:
    """Sum entries (phase, cost) to `{"phases": {phase: sums}, "total": sums}`."""
    phases: dict[str, list[Costly]] = {}
    for phase, cost in entries:
        phases.setdefault(phase, []).append(cost)
    by_phase = {phase: _sums(costs) for phase, costs in phases.items()}
    tokens, flops, seconds = (sum(sums[name] for sums in by_phase.values()) for name in ("tokens", "flops", "seconds"))
    return {"phases": by_phase, "total": {"tokens": tokens, "flops": float(flops), "seconds": float(seconds)}}


def _sums(costs: list[Costly]) -> dict[str, float]:
    return {
        "tokens": sum(cost.tokens for cost in costs),
        "flops": sum((cost.flops for cost in costs), 0.0),
        "seconds": sum((cost.seconds for cost in costs), 0.0),
    }
