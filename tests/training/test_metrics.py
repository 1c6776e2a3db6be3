from pathlib import Path

import pytest

from inheritune.errors import OutputError
from inheritune.training.metrics import Metrics


def test_rows_come_back_and_can_be_cut(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.rows() == []
    for step in range(5):
        metrics.add({"step": step, "loss": 1 / 3})
    metrics.keep(lambda row: row["step"] < 3)
    assert [row["step"] for row in Metrics(tmp_path / "metrics.jsonl").rows()] == [0, 1, 2]
    assert metrics.rows()[0]["loss"] == 1 / 3
    metrics.add({"kind": "validation", "step": 3})
    assert metrics.rows("validation") == [{"kind": "validation", "step": 3}] and metrics.rows("step") == []


def test_line_broken_off_by_a_kill_is_no_row(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.add({"step": 1})
    with metrics.path.open("a") as file:
        file.write('{"step": 2, "lo')
    assert metrics.rows() == [{"step": 1}]
    again = Metrics(metrics.path)
    again.add({"step": 2})
    assert metrics.rows() == [{"step": 1}, {"step": 2}]


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Metrics(tmp_path / "nowhere" / "metrics.jsonl").add({"step": 1})
