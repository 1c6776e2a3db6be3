"""`evaluate --run`: on what a run held out, to the last bit what the run itself says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import command, refused
from tiny import with_begin
from transformers import PreTrainedTokenizerFast

import inheritune
from inheritune.records.result import Result
from inheritune.runs.again import evaluate_run


@pytest.fixture
def finished(
    tree: dict[str, Any], corpus: Path, write_recipe: Callable[..., str], tmp_path: Path
) -> tuple[Path, Result]:
    """A run on a text of its own, which may be replaced."""
    shutil.copy(corpus / "words.jsonl", tmp_path / "text.jsonl")
    tree["data"]["train"] = str(tmp_path / "text.jsonl")
    tree["growth"]["max_depth"] = 2
    return tmp_path / "out", inheritune.run(write_recipe(tree), str(tmp_path / "out"))


def test_it_says_what_the_run_says_and_refuses_what_it_cannot_know(
    finished: Any, gpt2: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = finished
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    found = json.loads(command("evaluate", "--run", str(out), "--json", "--quiet").out)
    assert [each["text"]["val_loss"] for each in found["models"]] == [result.target.val_loss, result.reference.val_loss]
    assert found["gap"]["nats_per_token"] == result.rounds[-1].gap.model_dump()
    assert found["data"]["tokens"] == result.validation.tokens
    itself = evaluate_run(out, str(gpt2))
    assert itself.gap and itself.gap.nats_per_token and itself.gap.nats_per_token.mean == 0.0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    shutil.copytree(gpt2, tmp_path / "other")
    with_begin(tokenizer).save_pretrained(tmp_path / "other")
    assert "reads other tokens" in refused("evaluate", str(tmp_path / "other"), "--run", str(out), "--quiet")
    assert "is no run folder" in refused("evaluate", "--run", str(gpt2), "--quiet")
    assert "leave one out" in refused("evaluate", "--run", str(out), "--reference", str(gpt2), "--quiet")
    assert "no model is named" in refused("evaluate")

    text = tmp_path / "text.jsonl"
    text.write_text(text.read_text() + json.dumps({"text": "kalo mine ruso"}) + "\n")
    assert "the text of data." in refused("evaluate", "--run", str(out), "--quiet")
    text.unlink()
    assert "text.jsonl" in refused("evaluate", "--run", str(out), "--quiet")
