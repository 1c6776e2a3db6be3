"""A run that is asked for the guard: its answers against those of the models in its folder, kept, and told wherever its verdict is."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shell import command, refused
from tiny import words

import inheritune
from inheritune.evaluation.guard import answers, guard
from inheritune.evaluation.guard_items import Item
from inheritune.models.reference import load_reference
from inheritune.records.guard import GuardAnswers
from inheritune.records.result import Result
from inheritune.report.beside import write_beside
from inheritune.runs import again
from inheritune.runs import guarded as asking
from inheritune.runs.again import evaluate_run

PAIRS = zip(words(random.Random(3), 48).split(), words(random.Random(4), 48).split(), strict=True)
ASKED = [Item(f"task {at % 2}", f"kalo {right} mine", (right, wrong)) for at, (right, wrong) in enumerate(PAIRS)]


@pytest.fixture
def recipe(tree: dict[str, Any], write_recipe: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(asking, "items", lambda: ASKED)
    tree["match"] = {"guard": 0.03}
    tree["growth"]["max_depth"] = 2
    return write_recipe(tree)


def asked_by_hand(place: Path) -> np.ndarray:
    loaded = load_reference(str(place))
    return answers(loaded.model, loaded.tokenizer, ASKED).right


def without_clocks(result: Result) -> dict[str, Any]:
    kept = result.model_dump()
    return {key: kept[key] for key in ("outcome", "message", "guard", "target", "decisions")}


def test_it_stands_beside_the_verdict(
    recipe: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = inheritune.run(recipe, str(tmp_path / "out"))
    both = (asked_by_hand(Path(place)) for place in (tmp_path / "out/model", tree["reference"]))
    found = guard(ASKED, *both, confidence=0.95, tolerance=0.03)
    assert result.guard == found and found.rows and 20 < found.rows[-1].items < 48
    assert result.message.endswith(f". Guard: {found.told}")
    monkeypatch.setattr(again, "items", lambda: ASKED)
    assert evaluate_run(tmp_path / "out", guarded=True).guard == found
    spent = result.ledger.phases["guard"]
    kept = [GuardAnswers.load(place) for place in sorted((tmp_path / "out").rglob(GuardAnswers.NAME))]
    assert len(kept) == 2 and spent.tokens == sum(one.tokens for one in kept) > 0
    row = found.rows[0]
    shares = f"{row.by_chance:.2f}", f"{row.reference:.2f}", f"{row.model:.2f}"
    card = (tmp_path / "out/model/README.md").read_text()
    assert (
        f"| {row.task} | {row.items} | {' | '.join(shares)} |" in card
        and "small questions made by code were compared" in card
    )
    page = (tmp_path / "out/report.html").read_text()
    assert "What a loss does not see" in page and f'<th class="word" scope="row">{row.task}</th>' in page
    assert found.told in command("status", str(tmp_path / "out")).out
    copied = shutil.copytree(tmp_path / "out", tmp_path / "copied")
    assert found.told in write_beside([tmp_path / "out", Path(copied)], tmp_path / "page").read_text()


def test_answers_are_kept(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    whole = without_clocks(inheritune.run(recipe, str(out)))
    asked = []
    monkeypatch.setattr(asking, "answers", lambda *given: asked.append(1) or answers(*given))
    for gone, times in (("result.json", 0), ("rounds/*/guard.json", 1)):
        (out / "result.json").unlink()
        for place in out.glob(gone):
            place.unlink()
        assert without_clocks(inheritune.run(recipe, str(out))) == whole and len(asked) == times
    kept = json.loads((out / "guard.json").read_text())
    (out / "guard.json").write_text(json.dumps({**kept, "items": "of another version"}))
    (out / "result.json").unlink()
    assert "remove it" in refused("run", recipe, "--out", str(out))


@pytest.mark.parametrize("tolerance", ["0", "0.6", "yes"])
def test_a_tolerance_that_is_none_is_refused(tolerance: str) -> None:
    assert "match.guard" in refused("run", "laptop", "--set", f"match.guard={tolerance}")
