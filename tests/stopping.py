"""A run that is stopped after a step, as by SIGTERM."""

import signal
from collections.abc import Callable
from pathlib import Path

from inheritune.records.rows import MetricsRow, StepRow
from inheritune.training.metrics import Metrics


def stopping_at(step: int, folder: Path | None = None) -> Callable[[Metrics, MetricsRow], None]:
    """A `Metrics.add` that sends this process SIGTERM once `step` is written, in whichever folder or in this one."""
    original = Metrics.add

    def add(metrics: Metrics, row: MetricsRow) -> None:
        original(metrics, row)
        if isinstance(row, StepRow) and row.step == step and folder in (None, metrics.path.parent):
            signal.raise_signal(signal.SIGTERM)

    return add
