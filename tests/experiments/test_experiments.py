"""The experiments run: a variation beside its base, the yardstick of a strategy, and its figure."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))

import ablations
import book_texts
import compute_to_match
import guard_real
import real_models
import yardstick_curves
from shell import command
from tiny import words

from inheritune.evaluation.guard import answers
from inheritune.evaluation.guard_items import Item
from inheritune.models.reference import load_reference
from inheritune.surgery.in_memory import inherit


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
    wanted = ("teach-logits-cut", "teach-half-origin", "train-linear", "steps")
    asked(monkeypatch, ablations.main, "--recipe", recipe, "--out", str(out), "--only", *wanted)
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())}
    taught = {"teach-logits-cut", "teach-logits-cut-cosine", "teach-half-origin", "teach-half-origin-but-two"}
    assert set(rows) == {"base", "train-linear", "steps-two", *taught}
    assert rows["base"]["difference"]["mean"] == 0
    assert rows["train-linear"]["training_flops"] == rows["base"]["training_flops"]
    assert all(rows[name]["tokens"] < rows["base"]["tokens"] for name in taught), (
        "a teacher's passes are paid for with tokens"
    )
    assert rows["steps-two"]["blocks"] == rows["base"]["blocks"]
    assert rows["steps-two"]["training_flops"] == pytest.approx(rows["base"]["training_flops"], rel=0.2)
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


def in_process(asked: list[str], said: Path, log: Path) -> real_models.Cost:
    """A step's command without a process of its own."""
    ended = command(*asked[3:])
    assert asked[1:3] == ["-m", "inheritune"] and ended.code == 0, ended
    said.write_text(ended.out)
    return real_models.Cost(1.5, 1.0, 2.0)


def test_a_real_models_steps_agree_and_are_done_once(
    tree: dict[str, Any], write_recipe: Callable[[dict[str, Any]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tree["data"]
    data |= {"valid": str(tmp_path / "held.jsonl"), "valid_tokens_per_document": 1024}
    Path(data["valid"]).write_text("".join(f"{line}\n" for line in Path(data["train"]).read_text().splitlines()[:12]))
    tree["growth"] = {"start": 2, "max_depth": 2}
    monkeypatch.setattr(real_models, "spend", in_process)
    out = tmp_path / "road"
    asked(monkeypatch, real_models.main, write_recipe(tree), "--out", str(out))
    table = (out / "table.md").read_text()
    for what in ("reference's loss", "target's loss, as written"):
        run, evaluated = (cell.strip() for cell in table.split(f"| {what} |")[1].split("|")[:2])
        assert run == evaluated, what
    assert "| inherit | 2 | 1 | 2 |" in table and "nats per token before" in table
    monkeypatch.setattr(real_models, "spend", lambda *_: pytest.fail("a step is done twice"))
    asked(monkeypatch, real_models.main, str(next(tmp_path.glob("*.yaml"))), "--out", str(out))


def test_a_book_is_what_stands_between_its_marks() -> None:
    raw = "A licence.\r\n*** START OF THIS BOOK ***\r\n\r\nOne\r\nline.\r\n\r\nMore.\r\n*** END OF THIS\r\nBOOK ***\r\nA licence."
    assert book_texts.body(raw) == "One line.\n\nMore."
    text = "Before. " * 300 + "\n\n" + "After. " * 200
    assert book_texts.passage(text) == ("After. " * 200)[:1000]


def test_the_guard_on_cuts_is_asked_once_each(
    references: Callable[[str], Path],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pairs = zip(words(random.Random(3), 48).split(), words(random.Random(4), 48).split(), strict=True)
    given = [Item(f"task {at % 2}", f"kalo {right} mine", (right, wrong)) for at, (right, wrong) in enumerate(pairs)]
    monkeypatch.setattr(guard_real, "items", lambda: given)
    place, out = references("llama"), tmp_path / "out"
    models = [f"whole={place}", "cut=0-1", f"same={place}"]
    asked(monkeypatch, guard_real.main, str(out), *models, "--text", str(corpus / "words.jsonl"), "--documents", "3")
    first = capsys.readouterr().out
    loaded = load_reference(str(place))
    own = answers(inherit(loaded.model, [0, 1]), loaded.tokenizer, given).right
    share = np.nanmean([right for right, item in zip(own, given, strict=True) if item.task == "task 1"])
    (row,) = [line.split("|") for line in first.splitlines() if line.startswith("| task 1 |")]
    assert row[5].split(",")[0].strip() == f"{share:.2f}" and row[6].startswith(f" {row[4].strip()}, +0.00 [")
    assert [line.split(":")[0] for line in (out / "table.md").read_text().splitlines() if line[:1] == "-"] == [
        "- task 0",
        "- task 1",
    ]
    monkeypatch.setattr(guard_real, "load_reference", None)
    asked(monkeypatch, guard_real.main, str(out), *models, "--text", str(corpus / "words.jsonl"), "--documents", "3")
    assert capsys.readouterr().out.splitlines()[-3:] == first.splitlines()[-3:]
