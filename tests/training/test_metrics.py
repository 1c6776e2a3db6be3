from pathlib import Path

import pytest

from inheritune.errors import OutputError
from inheritune.evidence.gap import Gap
from inheritune.records.entry import Spent
from inheritune.records.rows import DecisionRow, SkippedRow, StepRow, ValidationRow
from inheritune.training.metrics import Metrics

DONE = {"round": 1, "depth": 2, "tokens": 8, "flops": 1e9}


def step(number: int) -> StepRow:
    return StepRow(
        **DONE,
        step=number,
        loss=1 / 3,
        cross_entropy=0.1,
        lr=0.1,
        grad_norm=2.0,
        tokens_per_second=9,
        mfu=None,
        memory=1,
    )


def validation(number: int) -> ValidationRow:
    spent, gap = Spent(tokens=1, flops=2.0, seconds=3.0), Gap(0.1, 0.0, 0.2, "worse")
    return ValidationRow(**DONE, step=number, val_loss=2.0, gap=gap, end=9, training_seconds=1.0, cost=spent)


def test_rows_come_back_and_can_be_cut(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    assert metrics.rows() == []
    for number in range(5):
        metrics.add(step(number))
    metrics.keep(lambda row: row.step < 3)
    assert Metrics(tmp_path / "metrics.jsonl").rows() == [step(number) for number in range(3)]
    assert metrics.of(StepRow)[0].loss == 1 / 3 and metrics.of(StepRow)[0].text_loss == 0.1
    metrics.add(validation(3))
    assert metrics.of(ValidationRow) == [validation(3)] and metrics.of(DecisionRow) == []
    whole = metrics.path.read_bytes()
    metrics.keep(lambda row: True)
    assert metrics.path.read_bytes() == whole


def test_line_broken_off_by_a_kill_is_no_row(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.add(step(1))
    with metrics.path.open("a") as file:
        file.write('{"kind": "step", "lo')
    assert metrics.rows() == [step(1)]
    again = Metrics(metrics.path)
    again.add(step(2))
    assert metrics.rows() == [step(1), step(2)]


@pytest.mark.parametrize(
    "damage", [b"{", b"[]", b"\xff", b'{"kind": "step"}', b'{"kind": "growth", "step": NaN}', b"[" * 9999]
)
def test_a_damaged_line_is_named(tmp_path: Path, damage: bytes) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl")
    metrics.add(step(1))
    metrics.path.write_bytes(metrics.path.read_bytes() + damage + b"\n")
    with pytest.raises(OutputError, match=r"line 2 of '.*metrics.jsonl' is damaged"):
        metrics.rows()


def test_steps_that_a_checkpoint_has_done_are_required(tmp_path: Path) -> None:
    """Of three steps one was skipped; a log that lost a line is refused, and one that is not there."""
    metrics = Metrics(tmp_path / "metrics.jsonl")
    for row in (step(1), SkippedRow(**DONE, step=2, loss=None, skipped="nan"), validation(2), step(3)):
        metrics.add(row)
    metrics.require_steps(1, 3)
    for path in (metrics.path, tmp_path / "nowhere.jsonl"):
        with pytest.raises(OutputError, match="of the 4 steps that round 1 has done"):
            Metrics(path).require_steps(1, 4)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        Metrics(tmp_path / "nowhere" / "metrics.jsonl").add(step(1))
