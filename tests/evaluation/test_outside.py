"""Outside texts: losses by hand, gaps by the evidence's own arithmetic, and where they are told."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import untrained_model
from torch import nn

import inheritune
from inheritune.config.sections import Match
from inheritune.data.tokens import Tokens
from inheritune.errors import DataError
from inheritune.evaluation.outside import compare_outside, openings
from inheritune.evidence.gap import gap

LENGTHS = (200, 90, 40, 2, 1)


def text_of(lengths: tuple[int, ...]) -> Tokens:
    ids = np.random.default_rng(0).integers(0, 320, sum(lengths)).astype("<u2")
    return Tokens(ids, np.cumsum([0, *lengths[:-1]]))


def losses_by_hand(model: nn.Module, row: np.ndarray) -> np.ndarray:
    ids = torch.from_numpy(row)
    logits = model(ids[None, :-1]).logits[0].detach()
    return nn.functional.cross_entropy(logits, ids[1:], reduction="none").numpy()


def test_losses_and_gaps_by_position() -> None:
    target, reference = (untrained_model("llama", seed, max_position_embeddings=256).eval() for seed in (1, 2))
    text = openings(text_of(LENGTHS), "x", context=150, most=10_000)
    rows = text.rows
    assert [len(row) for row in rows] == [151, 90, 40, 2]
    (found,) = compare_outside(target, reference, {"x": text}, Match(margin=0.5)).texts
    ours, theirs = ([losses_by_hand(model, row) for row in rows] for model in (target, reference))
    assert found.tokens == sum(map(len, ours)) and found.documents == 4
    assert found.target_loss == pytest.approx(np.concatenate(ours).mean(), abs=1e-5)
    assert found.reference_loss == pytest.approx(np.concatenate(theirs).mean(), abs=1e-5)
    assert [(band.first, band.last) for band in found.by_position] == [(0, 63), (64, 127)]
    second = gap(*([row[64:128].mean() for row in side[:2]] for side in (ours, theirs)), tokens=[64, 25], margin=0.5)
    assert found.by_position[1].tokens == 64 + 25
    for loss, side in ((found.by_position[1].target_loss, ours), (found.by_position[1].reference_loss, theirs)):
        assert loss == pytest.approx(np.concatenate([row[64:128] for row in side[:2]]).mean(), abs=1e-5)
    for key in ("mean", "low", "high"):
        assert getattr(found.by_position[1].gap, key) == pytest.approx(getattr(second, key), abs=1e-4)


def test_a_document_that_ends_where_a_place_begins_is_none_of_it() -> None:
    """64 tokens are predicted of the second one, at positions 0 to 63."""
    model = untrained_model("llama", 1, max_position_embeddings=256).eval()
    (found,) = compare_outside(model, model, {"x": openings(text_of((130, 65, 130)), "x", 128, 10_000)}, Match()).texts
    assert [(band.first, band.tokens) for band in found.by_position] == [(0, 3 * 64), (64, 2 * 64)]


def test_a_model_against_itself_has_no_gap() -> None:
    model = untrained_model("gpt2")
    (found,) = compare_outside(model, model, {"x": openings(text_of((60, 60)), "x", 50, 500)}, Match()).texts
    assert found.gap.model_dump() == {"mean": 0.0, "low": 0.0, "high": 0.0, "verdict": "matched"}


def test_sections_of_a_book_are_one_observation() -> None:
    """Four documents of two books: the interval is that of the books, jackknifed, not of four documents."""
    models = [untrained_model("gpt2", seed).eval() for seed in (1, 2)]
    tokens = replace(text_of((40, 40, 40, 40)), books=np.asarray([0, 0, 1, 1]))
    (found,) = compare_outside(*models, {"x": openings(tokens, "x", 50, 500)}, Match()).texts
    rows = [tokens.document(number).astype(np.int64) for number in range(4)]
    sides = [[losses_by_hand(model, row).mean() for row in rows] for model in models]
    wanted = gap(*sides, documents=[0, 0, 1, 1])
    assert (found.gap.low, found.gap.high) == pytest.approx((wanted.low, wanted.high), abs=1e-4)
    assert wanted.high - wanted.low != pytest.approx(gap(*sides).high - gap(*sides).low, rel=0.1)


def test_no_more_is_read_than_was_allowed() -> None:
    rows = openings(text_of((50, 50, 50)), "x", context=40, most=60).rows
    assert [len(row) - 1 for row in rows] == [40, 20]
    with pytest.raises(DataError, match=r"data.outside has 1 document.*'x'"):
        openings(text_of((50, 1)), "x", 40, 60)


def test_a_run_tells_them_beside_the_verdict(
    tree: dict[str, Any], corpus: Path, write_recipe: Callable[..., str], tmp_path: Path
) -> None:
    tree["data"]["outside"] = {"<b>other</b>": str(corpus / "words.txt")}
    tree["growth"]["max_depth"] = 2
    result = inheritune.run(write_recipe(tree), str(tmp_path / "out"))
    (text,) = result.outside
    assert text.name == "<b>other</b>" and text.last < 64 and text.documents > 1
    assert "on '<b>other</b>' " in result.message and text.gap.verdict in result.message
    assert result.ledger.phases["outside"].tokens == 2 * text.tokens
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Outside texts" in page and "&lt;b&gt;other" in page and "<b>other" not in page
    assert "These further texts take no part in the verdict" in (tmp_path / "out" / "model" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "result.json").read_text())["outside"][0]["gap"]["mean"] == text.gap.mean
