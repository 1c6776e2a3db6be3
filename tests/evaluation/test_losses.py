from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import untrained_model

from inheritune.config.sections import Data
from inheritune.data.tokens import Tokens
from inheritune.errors import DataError
from inheritune.evaluation import losses, token_losses
from inheritune.evaluation.losses import ValidationSet, document_losses, in_windows, mean_loss, validation

LENGTH = 16
SIZES = [40, 2, 16, 17, 18, 1, 33, 5]


@pytest.fixture(scope="module")
def tokens() -> Tokens:
    ids = np.random.default_rng(0).integers(1, 300, sum(SIZES))
    return Tokens(ids, np.cumsum([0, *SIZES[:-1]]))


def by_data(**fields: Any) -> Data:
    return Data(train="x", sequence_length=LENGTH, **fields)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
def test_equals_a_plain_loop_one_document_at_a_time(family: str, tokens: Tokens) -> None:
    model = untrained_model(family).eval()
    wanted = []
    for index, size in enumerate(SIZES):
        if size < 2:
            continue
        document, parts = torch.tensor(tokens.document(index)[:36]), []
        for start in range(0, len(document) - 1, LENGTH):
            piece = document[start : start + LENGTH + 1]
            with torch.no_grad():
                logits = model(piece[None, :-1]).logits[0]
            parts.append(F.cross_entropy(logits, piece[1:], reduction="none"))
        wanted.append(torch.cat(parts).double().mean().item())
    documents = validation(tokens, by_data(valid_tokens_per_document=36, valid_read="start"))
    found = document_losses(model, documents)
    assert found.shape == (7,) and found.dtype == np.float64
    assert found == pytest.approx(wanted, abs=1e-6)
    weights = np.array([min(size, 36) - 1 for size in SIZES if size > 1])
    assert documents.weights.tolist() == weights.tolist() and documents.tokens == weights.sum()
    assert mean_loss(found, documents) == pytest.approx(np.dot(wanted, weights) / weights.sum(), abs=1e-6)


def test_padding_is_never_seen_nor_counted(tokens: Tokens) -> None:
    model, documents = untrained_model("gpt2"), validation(tokens, by_data())
    padded = documents.labels == -100
    other = ValidationSet(np.where(padded, 123, documents.ids), documents.labels, documents.owner)
    assert padded.any()
    assert document_losses(model, other) == pytest.approx(document_losses(model, documents), abs=1e-12)


def test_size_of_a_batch_changes_nothing(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    model, documents = untrained_model("gpt2"), validation(tokens, by_data())
    whole = document_losses(model, documents)
    monkeypatch.setattr(token_losses, "_LOGITS_AT_ONCE", 1)
    told = list[tuple[int, int]]()
    found = document_losses(model, documents, count=lambda *seen: told.append(seen))
    assert found == pytest.approx(whole, abs=1e-6)
    assert told == [(done, len(documents.ids)) for done in range(1, len(documents.ids) + 1)]


def test_passes_before_a_stop_are_not_made_again(
    tokens: Tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the losses of one reading without a stop, to the bit; a question of another precision has nothing of them."""
    model, documents, place = untrained_model("gpt2"), validation(tokens, by_data()), tmp_path / "reference.jsonl"
    monkeypatch.setattr(token_losses, "_LOGITS_AT_ONCE", 1)
    whole, left, calls = document_losses(model, documents), [3], list[int]()
    measure = token_losses.label_losses

    def stopping(*given: Any) -> np.ndarray:
        calls.append(1)
        if len(calls) > left[0]:
            raise KeyboardInterrupt
        return measure(*given)

    monkeypatch.setattr(losses, "label_losses", stopping)
    with pytest.raises(KeyboardInterrupt):
        document_losses(model, documents, place=place)
    calls.clear()
    left[0] = 1_000
    assert np.array_equal(document_losses(model, documents, place=place), whole)
    assert len(calls) == len(documents.ids) - 3
    document_losses(model, documents, "bf16", place=place)
    assert len(calls) == 2 * len(documents.ids) - 3


def test_model_comes_back_in_its_own_mode(tokens: Tokens) -> None:
    documents, model = validation(tokens, by_data()), untrained_model("gpt2", resid_pdrop=0.5)
    trained, evaluated = document_losses(model.train(), documents), model.training
    assert evaluated and np.array_equal(trained, document_losses(model.eval(), documents)) and not model.training


def test_most_documents_are_the_first(tokens: Tokens) -> None:
    assert validation(tokens, by_data(valid_documents=3)).weights.tolist() == [39, 1, 15]


def test_sections_stay_with_their_books(tokens: Tokens) -> None:
    found = validation(replace(tokens, books=np.array([0, 0, 0, 1, 1, 1, 2, 2])), by_data(valid_documents=4))
    assert found.sources is not None and found.sources.tolist() == [0, 0, 1, 2]
    assert found.weights.tolist() == [39, 15, 16, 32] and found.clusters.tolist() == [0, 0, 1, 2]


def test_documents_are_clustered_by_their_source_where_there_are_several(tokens: Tokens) -> None:
    documents = validation(tokens, by_data(valid_documents=3))
    assert documents.clusters.tolist() == [0, 1, 2]
    assert replace(documents, sources=np.array([4, 7, 7])).clusters.tolist() == [4, 7, 7]
    assert replace(documents, sources=np.zeros(3, int)).clusters.tolist() == [0, 1, 2]


def test_one_document_is_too_few() -> None:
    with pytest.raises(DataError, match="1 document"):
        validation(Tokens(np.arange(9), np.array([0, 8])), by_data())


def test_documents_of_which_nothing_is_asked_where_they_are_read_are_left_out(tokens: Tokens) -> None:
    """Of the first document the last token alone is asked for, and its first eight are read."""
    asked = np.ones(sum(SIZES), dtype=bool)
    asked[: SIZES[0] - 1] = False
    told, data = replace(tokens, asked=asked), by_data(valid_tokens_per_document=8, valid_read="start")
    assert in_windows(told, np.asarray([0, 2]), data).weights.tolist() == [7]
    nothing = in_windows(told, np.asarray([0]), data)
    assert (len(nothing.weights), nothing.tokens, len(nothing.clusters)) == (0, 0, 0)
    with pytest.raises(DataError, match="0 document"):
        validation(replace(told, starts=told.starts[:1], ids=told.ids[:40], asked=asked[:40]), data)
