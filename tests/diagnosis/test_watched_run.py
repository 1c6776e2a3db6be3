"""A run that watches its target's attention: what it logs, what that costs, and that nothing else changes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import recipe_tree
from transformers import AutoModelForCausalLM
from yaml import safe_dump

from inheritune import run
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.records.rows import METRICS, MetricsRow, WatchRow
from inheritune.training.metrics import Metrics

Run = Callable[..., Path]


@pytest.fixture(scope="module")
def finished(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run's folder, watched every so many steps."""
    folder = tmp_path_factory.mktemp("watched")

    def go(name: str, every: int) -> Path:
        tree = recipe_tree(gpt2, corpus / "words.jsonl")
        tree["diagnosis"]["watch_every"] = every
        (folder / f"{name}.yaml").write_text(safe_dump(tree))
        run(str(folder / f"{name}.yaml"), out=str(folder / name))
        return folder / name

    return go


@pytest.fixture(scope="module")
def watched(finished: Run) -> Path:
    return finished("watched", 2)


def glances(folder: Path) -> list[dict[str, Any]]:
    rows = (row.model_dump() for row in Metrics(folder / METRICS).of(WatchRow))
    return [{**row, "cost": {**row["cost"], "seconds": 0}} for row in rows]


def test_a_watched_run_is_the_same_run_with_glances_and_their_cost(watched: Path, finished: Run) -> None:
    plain, seen = finished("plain", 0), glances(watched)
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (plain, watched)]
    assert weights[0] == weights[1] and glances(plain) == []
    steps = [(row["round"], row["step"]) for row in seen]
    assert steps == [(1, 0), (1, 2), (1, 4), (1, 6), (2, 6), (2, 8), (2, 10), (2, 12)]
    assert [len(row["max_rank"]) for row in seen] == [2] * 4 + [3] * 4
    model = AutoModelForCausalLM.from_pretrained(watched / "model")
    assert seen[-1]["cost"]["flops"] == 2 * 16 * forward_flops_per_token(model, 16)
    spent = [
        json.loads((folder / "result.json").read_text())["ledger"]["phases"]["diagnosis"] for folder in (plain, watched)
    ]
    assert spent[1]["flops"] - spent[0]["flops"] == pytest.approx(sum(row["cost"]["flops"] for row in seen))
    pages = [(folder / "report.html").read_text() for folder in (plain, watched)]
    assert ["The target's attention while it trained" in page for page in pages] == [False, True]


@pytest.mark.parametrize("broken_after", [1, 5])
def test_a_run_broken_off_after_a_glance_logs_each_once(
    broken_after: int, watched: Path, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    add, count = Metrics.add, 0

    def adding(self: Metrics, row: MetricsRow) -> None:
        nonlocal count
        add(self, row)
        count += isinstance(row, WatchRow)
        if count == broken_after:
            raise RuntimeError("broken off")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="broken off"):
        patch.setattr(Metrics, "add", adding)
        finished(f"broken-{broken_after}", 2)
    assert glances(finished(f"broken-{broken_after}", 2)) == glances(watched)
