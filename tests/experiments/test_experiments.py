"""The experiments run: a variation beside its base, the yardstick of a strategy, and its figure."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import ablations
import compute_to_match
import yardstick_curves


@pytest.fixture
def recipe(tree: dict[str, Any], write_recipe: Callable[[dict[str, Any]], str]) -> str:
    tree["choice"]["method"] = "first"
    return write_recipe(tree)


def asked(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["experiment", *arguments])
    main()


def test_a_variation_has_the_bases_flops_and_is_paired_with_it(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "ablations"
    asked(monkeypatch, ablations.main, "--recipe", recipe, "--out", str(out), "--only", "teach-logits", "train-linear")
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())}
    assert set(rows) == {"base", "teach-logits", "teach-logits-hidden", "train-linear"}
    assert rows["base"]["difference"]["mean"] == 0
    assert rows["train-linear"]["training_flops"] == rows["base"]["training_flops"]
    taught = rows["teach-logits"]
    assert taught["tokens"] < rows["base"]["tokens"], "a teacher's passes are paid for with tokens"
    gaps = [rows[name]["gap"]["mean"] for name in ("train-linear", "base")]
    assert rows["train-linear"]["difference"]["mean"] == pytest.approx(gaps[0] - gaps[1], abs=1e-9)


def test_a_strategy_is_priced_by_its_ledger_and_drawn(
    recipe: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, text = tmp_path / "yardstick", tree["data"]["train"]
    given = ["--recipe", recipe, "--strategies", "ours", "--reference", tree["reference"], "--data", text]
    asked(monkeypatch, compute_to_match.main, *given, "--out", str(out))
    (row,) = json.loads((out / "table.json").read_text())
    result = json.loads((out / "seed-0/ours/result.json").read_text())
    assert row["flops"] == result["ledger"]["total"]["flops"] and row["outcome"] == result["outcome"]
    figure = tmp_path / "curves.png"
    asked(monkeypatch, yardstick_curves.main, str(out), "--out", str(figure))
    assert figure.read_bytes().startswith(b"\x89PNG")
