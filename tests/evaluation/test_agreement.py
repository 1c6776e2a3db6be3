"""Two models token by token, against plain torch on each window."""

import numpy as np
import pytest
import torch
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.evaluation import agreement as module
from inheritune.evaluation.agreement import agreement, gap_by_position
from inheritune.evaluation.measure import OnRows, OnText, Text, measure
from inheritune.evidence.gap import gap

CONFIDENCE = 0.9


@pytest.fixture(scope="module")
def measured(texts: list[str], tokenizer: PreTrainedTokenizerFast) -> tuple[list[torch.nn.Module], list[OnText]]:
    models = [untrained_model("llama", seed, initializer_range=0.3).eval() for seed in (1, 2)]
    some = [Text(text * 2) for text in texts[:6]]
    return models, [measure(model, tokenizer, some, length=24) for model in models]


def by_hand(models: list[torch.nn.Module], rows: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    far, same = [], []
    for row in rows:
        with torch.no_grad():
            ours, theirs = (model(torch.from_numpy(row[None, :-1])).logits[0].softmax(-1) for model in models)
        far.append((theirs * (theirs / ours).log()).sum(-1).numpy())
        same.append((ours.argmax(-1) == theirs.argmax(-1)).numpy())
    return far, same


def interval(values: list[np.ndarray], own: OnText) -> tuple[float, float, float]:
    by_document = [
        np.concatenate([row for row, owner in zip(values, own.owner, strict=True) if owner == at]) for at in range(6)
    ]
    kept = [row for row in by_document if len(row)]
    found = gap([row.mean() for row in kept], [0.0] * len(kept), [len(row) for row in kept], confidence=CONFIDENCE)
    return found.mean, found.low, found.high


def test_divergence_and_choices_are_those_of_both_models(measured: tuple[list[torch.nn.Module], list[OnText]]) -> None:
    models, (own, other) = measured
    found = agreement(*models, own, other, CONFIDENCE)
    far, same = by_hand(models, own.rows)
    for estimate, values in ((found.divergence, far), (found.same_choice, same)):
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(interval(values, own), abs=1e-5)
        assert estimate.tokens == sum(map(len, values)) == own.tokens.sum()
    assert agreement(models[0], models[0], own, own, CONFIDENCE).divergence.mean == pytest.approx(0, abs=1e-6)


def test_a_gap_by_position_is_paired_by_document(measured: tuple[list[torch.nn.Module], list[OnText]]) -> None:
    """Its mean is the difference of both losses in the band; its interval that of each document's mean there."""
    _, (own, other) = measured
    found = gap_by_position(own, other, CONFIDENCE)
    assert len(found) == len(own.by_position) > 3
    for gap_there, ours, theirs in zip(found, own.by_position, other.by_position, strict=True):
        moved = [
            a[ours.first : ours.last + 1] - b[ours.first : ours.last + 1]
            for a, b in zip(own.losses, other.losses, strict=True)
        ]
        assert gap_there.mean == pytest.approx(ours.loss - theirs.loss)
        assert (gap_there.mean, gap_there.low, gap_there.high) == pytest.approx(interval(moved, own))
        assert gap_there.tokens == ours.tokens


def test_a_band_that_one_document_reaches_has_no_gap() -> None:
    """Two of its windows do, and they are one document; sections of one book are told apart where there is no other book."""
    losses = [np.ones(4), np.ones(4), np.ones(2)]
    text = OnRows(rows=[], losses=losses, owner=np.asarray([0, 0, 1]), sources=np.asarray([0, 0]))
    zero = OnRows(rows=[], losses=[0 * row for row in losses], owner=text.owner, sources=text.sources)
    first, second, third = gap_by_position(text, zero, CONFIDENCE)
    assert (first.mean, first.low, second.high) == pytest.approx((1, 1, 1)) and third is None


def test_of_a_long_text_windows_all_over_it_are_compared(
    measured: tuple[list[torch.nn.Module], list[OnText]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMPARED", 72)
    assert module._spread([24] * 9 + [0]) == [0, 4, 8], "72 of 216 tokens are three windows; the last has none"
    (models, (own, other)), told = measured, list[tuple[int, int]]()
    found = agreement(*models, own, other, CONFIDENCE, lambda *counts: told.append(counts))
    assert found.divergence.tokens < own.tokens.sum() / 2
    assert told == [(number, len(told)) for number in range(1, len(told) + 1)] and len(told) > 2


def test_rare_tokens_are_the_rarest_tenth_with_all_that_are_as_frequent() -> None:
    """Of 21 tokens 2.1 are asked for: the three that stand once."""
    rows = [np.asarray([1] * 10 + [2] * 8), np.asarray([3, 4, 5])]
    assert [row.tolist() for row in module._rare(rows)] == [[False] * 18, [True] * 3]
    assert module._rare([np.asarray([1] * 9 + [2])])[0].tolist() == [False] * 9 + [True]


def test_copied_tokens_end_a_passage_of_three_that_stood_there_before() -> None:
    row = np.asarray([7, 1, 2, 3, 9, 1, 2, 3, 1, 2, 4])
    assert np.flatnonzero(module.copied(row)).tolist() == [7]
    assert np.flatnonzero(module.copied(np.asarray([5, 5, 5, 5, 5]))).tolist() == [3, 4]


def test_losses_on_rare_and_copied_tokens_are_differences_there(
    measured: tuple[list[torch.nn.Module], list[OnText]],
) -> None:
    models, (own, other) = measured
    found = agreement(*models, own, other, CONFIDENCE)
    moved = [ours - theirs for ours, theirs in zip(own.losses, other.losses, strict=True)]
    copied = [module.copied(row)[1:] for row in own.rows]
    rare = module._rare([row[1:] for row in own.rows])
    for estimate, kinds in ((found.copied, copied), (found.rare, rare)):
        values = [row[kind] for row, kind in zip(moved, kinds, strict=True)]
        assert 0 < estimate.tokens == sum(map(len, values)) < own.tokens.sum()
        assert (estimate.mean, estimate.low, estimate.high) == pytest.approx(interval(values, own), abs=1e-9)


def test_two_documents_give_an_interval_and_one_gives_none() -> None:
    values, owner = [np.array([1.0, 3.0]), np.array([5.0])], np.array([0, 1])
    found = module._estimate(values, np.array([0, 1]), owner, 0.9)
    assert found is not None and found.mean == pytest.approx(3.0) and found.tokens == 3
    assert module._estimate(values[:1], np.array([0, 1]), owner[:1], 0.9) is None
