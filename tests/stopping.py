"""A run that is stopped after a step, as by SIGTERM."""

import signal
from collections.abc import Callable

from inheritune.records.rows import MetricsRow, StepRow
from inheritune.training.metrics import Metrics


def stopping_at(step: int) -> Callable[[Metrics, MetricsRow], None]:
    """A `Metrics.add` that sends this process SIGTERM once `step` is written."""
    original = Metrics.add

    def add(metrics: Metrics, row: MetricsRow) -> None:
        original(metrics, row)
        if isinstance(row, StepRow) and row.step == step:
            signal.raise_signal(signal.SIGTERM)

    return add
