import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inheritune.errors import RecipeError
from inheritune.runs.trackers import trackers
from inheritune.training.metrics import Metrics

ROWS = [
    {"kind": "step", "step": 1, "loss": 2.5, "lr": 0.1},
    {"kind": "decision", "round": 1, "action": "grow"},
    {"kind": "skipped", "step": 2, "loss": None, "skipped": "nan"},
    {"kind": "validation", "step": 2, "val_loss": 2.25},
]


def test_tensorboard_holds_what_the_metrics_hold(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    metrics = Metrics(tmp_path / "metrics.jsonl", trackers(["tensorboard"], "run", tmp_path))
    for row in ROWS:
        metrics.add(row)
    read = events.EventAccumulator(str(tmp_path / "tensorboard"))
    read.Reload()
    assert [(e.step, e.value) for e in read.Scalars("step/loss")] == [(1, 2.5)]
    assert [(e.step, e.value) for e in read.Scalars("validation/val_loss")] == [(2, 2.25)]
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
    assert told == [({"step/step": 1, "step/loss": 2.5, "step/lr": 0.1}, 1)]


def test_a_tracker_that_is_missing_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RecipeError, match="track names 'wandb', which is not installed: pip install wandb"):
        trackers(["wandb"], "mine", tmp_path)
