"""How two models go on from the same places: transformers' own generation, and repetition counted by hand."""

import numpy as np
import pytest
import torch
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.evaluation import going_on as module
from inheritune.evaluation.going_on import going_on
from inheritune.evaluation.measure import OnRows
from inheritune.evidence.gap import gap


def rows_of(lengths: list[int]) -> OnRows:
    """A document of one row for each length."""
    source = np.random.default_rng(3)
    rows = [source.integers(1, 300, length) for length in lengths]
    owner = np.arange(len(rows))
    return OnRows(rows=rows, losses=[np.zeros(len(row) - 1) for row in rows], owner=owner, sources=owner)


def by_transformers(model: torch.nn.Module, prompt: np.ndarray, most: int) -> list[int]:
    """One prompt by itself; an untrained model gives 0, the end of text, like any other token."""
    ids = torch.from_numpy(prompt)[None]
    said = model.generate(ids, max_new_tokens=most, do_sample=False, pad_token_id=0, eos_token_id=0)[0, len(prompt) :]
    return [token for token in said.tolist() if token != 0]


def said_before(ids: list[int]) -> float:
    threes = [tuple(ids[at : at + 3]) for at in range(len(ids) - 2)]
    return sum(three in threes[:at] for at, three in enumerate(threes)) / len(ids) if ids else 0.0


def test_answers_are_transformers_and_counted_by_hand(tokenizer: PreTrainedTokenizerFast) -> None:
    """Of 20 documents the two short ones are passed over; answers end with the models' positions."""
    models = [untrained_model(family, 5, initializer_range=0.3).eval() for family in ("llama", "gpt2")]
    text = rows_of([60, 3, *range(44, 60), 9, 64])
    found = going_on(*models, tokenizer, text, 0.9)
    assert found is not None and found.most == 32 and len(found.answers) == 16
    long = [row for row in text.rows if len(row) > 32]
    picked = [long[at][:32] for at in np.linspace(0, 17, 16).astype(int)]
    assert [one.prompt for one in found.answers] == [tokenizer.decode(row) for row in picked]
    sides = [[by_transformers(model, row, 32) for row in picked] for model in models]
    for name, answers in zip(("model", "reference"), sides, strict=True):
        assert [getattr(one, name) for one in found.answers] == [tokenizer.decode(ids) for ids in answers]
    for kind, told in ((said_before, found.repeated), (len, found.length)):
        ours, theirs = ([kind(ids) for ids in answers] for answers in sides)
        between = gap(ours, theirs, confidence=0.9)
        assert (told.model, told.reference) == pytest.approx((np.mean(ours), np.mean(theirs)))
        assert (told.mean, told.low, told.high) == pytest.approx((between.mean, between.low, between.high))
    assert found.repeated.model != found.repeated.reference


def test_an_answer_ends_before_the_end_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def logits(model: object, ids_BT: torch.Tensor, most: int) -> list[torch.Tensor]:
        return [torch.eye(8)[list(column)] for column in ((1, 7), (7, 2), (1, 3))]

    monkeypatch.setattr(module, "greedy_logits", logits)
    model = untrained_model("llama")
    assert [ids.tolist() for ids in module._answers(model, np.ones((2, 4), dtype=np.int64), 3, 7)] == [[1], []]
    whole = module._answers(model, np.ones((2, 4), dtype=np.int64), 3, None)
    assert [ids.tolist() for ids in whole] == [[1, 7, 1], [7, 2, 3]]


def test_one_document_that_is_long_enough_says_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    model = untrained_model("llama")
    assert going_on(model, model, tokenizer, rows_of([60, 3, 4]), 0.95) is None
