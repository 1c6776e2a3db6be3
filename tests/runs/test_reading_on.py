"""Where a look cannot tell, more is read: held against a run that reads all of it at once."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import recompute
import yaml

import inheritune
from inheritune.evaluation.losses import ValidationSet
from inheritune.evidence.gap import gap
from inheritune.evidence.sequential import look_confidence, reading_confidence
from inheritune.records.entry import Spent
from inheritune.records.result import Result
from inheritune.records.stages import PlannedLooks
from inheritune.runs.reading_on import read_on

FIRST, ALL = 5, 19


@pytest.fixture
def one_round(tree: dict[str, Any]) -> dict[str, Any]:
    tree["growth"]["max_depth"] = tree["growth"]["start"]
    return tree


def ran(tree: dict[str, Any], place: Path, documents: int, margin: float) -> Result:
    tree = copy.deepcopy(tree)
    tree["data"]["valid_documents"], tree["match"] = documents, {"margin": margin, "confidence": 0.9}
    place.mkdir()
    (place / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return inheritune.run(str(place / "recipe.yaml"), out=str(place / "out"))


def weights_of(cache: Path) -> np.ndarray:
    """Tokens asked of each document, from the prepared text."""
    rows = [row[:48] for row in recompute.documents_of(cache, "valid")]
    return np.asarray([len(row) - 1.0 for row in rows])


def losses_in(place: Path, name: str) -> np.ndarray:
    return np.asarray(json.loads((place / "out" / name).read_text())["losses"])


def test_a_look_that_cannot_tell_reads_all_there_is_and_pays_for_it(
    one_round: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A margin that is the gap on all documents: no interval around it can tell, so all planned reads are done."""
    monkeypatch.setenv("INHERITUNE_CACHE", str(tmp_path / "cache"))
    whole = ran(one_round, tmp_path / "whole", ALL, 1e-6)
    margin = whole.rounds[0].gap.mean
    assert margin > 0
    result = ran(one_round, tmp_path / "part", FIRST, margin)

    (round_,) = result.rounds
    assert round_.further is not None and round_.further.documents == ALL
    assert result.validation.look_confidence == look_confidence(0.9, 1, reads=1)
    assert round_.further.confidence == reading_confidence(0.9, 1, reads=1) == pytest.approx(0.96)

    (folder,) = (tmp_path / "part" / "out" / "rounds").iterdir()
    (other,) = (tmp_path / "whole" / "out" / "rounds").iterdir()
    read, at_once = np.load(folder / "further.npy"), np.load(other / "losses.npy")
    assert read == pytest.approx(at_once, abs=1e-6) and np.array_equal(read[:FIRST], np.load(folder / "losses.npy"))
    reference = losses_in(tmp_path / "whole", "reference.json")
    in_parts = [losses_in(tmp_path / "part", name) for name in ("reference.json", "further/1/reference.json")]
    assert np.concatenate(in_parts) == pytest.approx(reference, abs=1e-6)

    weights = weights_of(tmp_path / "cache")
    found = round_.further.gap
    mean, low, high = recompute.gap(read, reference, weights, 0.96)
    assert (found.mean, found.low, found.high) == pytest.approx((mean, low, high), rel=1e-3)
    assert found.mean == pytest.approx(margin, rel=1e-4) and found.verdict == "cannot tell"
    assert result.message.startswith("Not matched (cannot tell)")
    assert f"rests on {ALL} documents only" in result.message and f"rests on {FIRST} documents" not in result.message
    assert (
        "90% interval, or 96% where the run read more documents"
        in (tmp_path / "part" / "out" / "report.html").read_text()
    )


def test_what_was_read_on_is_in_the_ledger_and_a_look_that_tells_reads_nothing(
    one_round: dict[str, Any], tmp_path: Path
) -> None:
    wide = ran(one_round, tmp_path / "wide", FIRST, 5.0)
    assert wide.outcome == "matched" and wide.rounds[0].further is None
    near = ran(one_round, tmp_path / "near", FIRST, wide.rounds[0].gap.mean)
    further = near.rounds[0].further
    assert further is not None
    kept = json.loads((tmp_path / "near" / "out" / "further/1/reference.json").read_text())
    more = near.ledger.phases["validation"].tokens - wide.ledger.phases["validation"].tokens
    assert more == further.tokens + kept["tokens"] == 2 * (further.tokens_in_all - near.validation.tokens)


def test_a_further_reading_of_which_nothing_is_asked_is_passed_over() -> None:
    def documents(count: int) -> ValidationSet:
        ids = np.ones((count, 3), dtype=np.int64)
        return ValidationSet(ids, ids, np.arange(count))

    sets = [documents(0), documents(4)]
    look = gap([1.0, 1.1, 0.9], [1.0, 1.0, 1.0], margin=0.01, confidence=0.9)
    bench: Any = SimpleNamespace(
        documents=documents(3),
        folder=Path(),
        reference_measured=SimpleNamespace(losses=[1.0] * 3),
        further_documents=lambda number: sets[number],
        reference_on=lambda found, _: SimpleNamespace(losses=[1.0] * len(found.weights)),
        losses_on=lambda found, _: (np.full(len(found.weights), 1.1), Spent(tokens=1, flops=1, seconds=1)),
        gap_on=lambda read, losses, reference, confidence: look,
    )
    planned = PlannedLooks(looks=1, confidence=0.9, reads=2, reading_confidence=0.95)
    found = read_on(bench, None, SimpleNamespace(losses=np.ones(3), gap=look), planned)  # type: ignore[arg-type]
    assert look.verdict == "cannot tell" and found is not None
    assert (found[0].documents, found[0].tokens, found[1].tolist()) == (7, 1, [1.0] * 3 + [1.1] * 4)
