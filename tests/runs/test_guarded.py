"""A run that is asked for the guard: its answers against those of the models in its folder, kept, and told wherever its verdict is."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recompute
import torch
from shell import command, refused
from tiny import words

import inheritune
from inheritune.evaluation.guard import answers, guard
from inheritune.evaluation.guard_items import Item
from inheritune.models.reference import load_reference
from inheritune.records.estimate import RunEstimate
from inheritune.records.guard import GuardAnswers
from inheritune.records.result import Result
from inheritune.report.beside import write_beside
from inheritune.report.story import token_rows
from inheritune.runs import again, estimate
from inheritune.runs import guarded as asking
from inheritune.runs.again import evaluate_run
from inheritune.runs.plan import plan

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
    del kept["token_by_token"]["seconds"]
    return {key: kept[key] for key in ("outcome", "message", "guard", "token_by_token", "target", "decisions")}


def test_it_stands_beside_the_verdict(
    recipe: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = inheritune.run(recipe, str(tmp_path / "out"))
    both = (asked_by_hand(Path(place)) for place in (tmp_path / "out/model", tree["reference"]))
    found = guard(ASKED, *both, confidence=0.95, tolerance=0.03)
    assert result.guard == found and found.rows and 20 < found.rows[-1].items < 48
    assert result.message.endswith(f". Guard: {found.told}")
    monkeypatch.setattr(again, "items", lambda: ASKED)
    anew, by_token = evaluate_run(tmp_path / "out", guarded=True), result.token_by_token
    assert anew.guard == found and by_token is not None
    assert (anew.agreement, anew.going_on) == (by_token.agreement, by_token.going_on)
    spent = result.ledger.phases["guard"]
    kept = [GuardAnswers.load(place) for place in sorted((tmp_path / "out").rglob(GuardAnswers.NAME))]
    assert len(kept) == 2 and spent.tokens == sum(one.tokens for one in (*kept, by_token)) > by_token.tokens > 0
    row = found.rows[0]
    shares = f"{row.by_chance:.2f}", f"{row.reference:.2f}", f"{row.model:.2f}"
    card = (tmp_path / "out/model/README.md").read_text()
    assert (
        f"| {row.task} | {row.items} | {' | '.join(shares)} |" in card
        and "small questions made by code were compared" in card
    )
    page = (tmp_path / "out/report.html").read_text()
    for what, before, after, between in token_rows(by_token):
        assert f"| {what} | {before} | {after} | {between} |" in card
        assert f'<th class="word" scope="row">{what}</th><td data-label="Reference">{before}</td>' in page
    assert "What a loss does not see" in page and f'<th class="word" scope="row">{row.task}</th>' in page
    assert found.told in command("status", str(tmp_path / "out")).out
    copied = shutil.copytree(tmp_path / "out", tmp_path / "copied")
    assert found.told in write_beside([tmp_path / "out", Path(copied)], tmp_path / "page").read_text()


def test_what_was_read_token_by_token_is_that_of_the_written_model(
    recipe: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and divergence by plain passes over the held-out documents, without our evaluation."""
    monkeypatch.setenv("INHERITUNE_CACHE", str(tmp_path / "cache"))
    found = inheritune.run(recipe, str(tmp_path / "out")).token_by_token
    models = [load_reference(str(place)).model for place in (tmp_path / "out/model", tree["reference"])]
    rows = [
        torch.from_numpy(row[:65])[None] for row in recompute.documents_of(tmp_path / "cache", "valid") if len(row) > 1
    ]
    far, losses = [], [[], []]
    for ids in rows:
        ours, theirs = (model(ids[:, :-1]).logits[0].detach().log_softmax(-1) for model in models)
        far.append((theirs.exp() * (theirs - ours)).sum(-1))
        for side, told in zip(losses, (ours, theirs), strict=True):
            side.append(-told.gather(1, ids[0, 1:, None])[:, 0])
    assert found is not None and found.documents == len(rows)
    assert found.agreement.divergence.mean == pytest.approx(torch.cat(far).mean().item(), abs=1e-5)
    first = found.by_position[0]
    for loss, side in zip((first.target_loss, first.reference_loss), losses, strict=True):
        assert loss == pytest.approx(torch.cat([row[:64] for row in side]).mean().item(), abs=1e-5)


def test_it_is_planned(recipe: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No less than it takes, and less than twice: the text's tokens are taken from its bytes, answers may end early, and an item that cannot be told
    apart is not asked."""
    tokenizer = load_reference(tree["reference"]).tokenizer
    asked = sum(len(tokenizer(item.text)["input_ids"]) for item in ASKED)
    monkeypatch.setattr(estimate, "about_tokens", lambda: asked)
    spent = inheritune.run(recipe, str(tmp_path / "out")).ledger.phases["guard"]
    (stage,) = (one for one in RunEstimate.load(tmp_path / "out" / "plan.json").stages if one.name == "guard")
    assert 1 <= stage.tokens / spent.tokens < 2 and 1 <= stage.flops / spent.flops < 2
    assert "guard" not in [one.name for one in plan(recipe, match__guard=None).stages]


def test_answers_are_kept(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    whole = without_clocks(inheritune.run(recipe, str(out)))
    asked = []
    monkeypatch.setattr(asking, "answers", lambda *given: asked.append(1) or answers(*given))
    for gone, times in (("result.json", 0), ("rounds/*/guard.json", 1), ("rounds/*/token_by_token.json", 1)):
        (out / "result.json").unlink()
        for place in out.glob(gone):
            place.unlink()
        assert without_clocks(inheritune.run(recipe, str(out))) == whole and len(asked) == times
    (place,) = out.glob("rounds/*/token_by_token.json")
    place.write_text(place.read_text().replace('"documents": ', '"documents": 1'))
    (out / "result.json").unlink()
    assert "token_by_token.json' is damaged" in refused("run", recipe, "--out", str(out))
    place.unlink()
    kept = json.loads((out / "guard.json").read_text())
    (out / "guard.json").write_text(json.dumps({**kept, "items": "of another version"}))
    assert "remove it" in refused("run", recipe, "--out", str(out))


@pytest.mark.parametrize("tolerance", ["0", "0.6", "yes"])
def test_a_tolerance_that_is_none_is_refused(tolerance: str) -> None:
    assert "match.guard" in refused("run", "laptop", "--set", f"match.guard={tolerance}")
