import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inheritune.errors import RecipeError
from inheritune.evidence.gap import Gap
from inheritune.records.entry import Spent
from inheritune.records.rows import DecisionRow, SkippedRow, StepRow, ValidationRow
from inheritune.runs.trackers import trackers
from inheritune.training.metrics import Metrics

DONE = {"round": 1, "depth": 2, "tokens": 8, "flops": 16.0}
ROWS = [
    StepRow(**DONE, step=1, loss=2.5, lr=0.1, grad_norm=1.0, tokens_per_second=9, mfu=None, memory=None),
    DecisionRow(round=1, action="grow", reason="it does not match"),
    SkippedRow(**DONE, step=2, loss=None, skipped="nan"),
    ValidationRow(
        **DONE, step=2, val_loss=2.25, gap=Gap(0.5, 0.25, 0.75, "worse"), end=3, training_seconds=1.0,
        cost=Spent(tokens=1, flops=2.0, seconds=3.0),
    ),
]  # fmt: skip


def test_tensorboard_holds_what_the_metrics_hold(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = Metrics(tmp_path / "metrics.jsonl", trackers(["tensorboard"], "run", tmp_path))
    for row in ROWS:
        metrics.add(row)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("step/loss")] == [(1, 2.5)]
    assert [(e.step, e.value) for e in read.Scalars("validation/val_loss")] == [(2, 2.25)]
    assert [(e.step, e.value) for e in read.Scalars("validation/gap/mean")] == [(2, 0.5)]
    assert "skipped/loss" not in read.Tags()["scalars"] and metrics.rows() == ROWS


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_the_others_are_told_numbers_by_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[dict[str, Any]] = []
    told: list[tuple[dict[str, float], int]] = []
    stand_in = SimpleNamespace(log=lambda values, step: told.append((values, step)))
    stand_in.init = lambda **given: begun.append(given) or stand_in
    monkeypatch.setitem(sys.modules, name, stand_in)
    (tell,) = trackers([name], "mine", tmp_path)
    tell(ROWS[0])
    assert begun[0]["name"] == "mine" and begun[0]["project"] == "inheritune"
    ((values, step),) = told
    assert step == values["step/step"] == 1 and (values["step/loss"], values["step/lr"]) == (2.5, 0.1)
    assert "step/mfu" not in values


def test_a_tracker_that_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError, match="track names 'wandb', which is not installed: pip install wandb"):
        trackers(["wandb"], "mine", tmp_path)
