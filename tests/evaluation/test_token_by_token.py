"""What a run asks beside the guard set: which starts are read, and every number from the models themselves."""

import numpy as np
import pytest
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.config.sections import Match
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.evaluation import token_by_token as module
from inheritune.evaluation.agreement import agreement
from inheritune.evaluation.going_on import going_on
from inheritune.evaluation.measure import OnRows
from inheritune.evaluation.outside import compare_outside
from inheritune.evaluation.token_by_token import held_out_starts, token_by_token
from inheritune.evaluation.token_losses import token_losses
from inheritune.models.begin import Begin

LENGTHS = (40, 50, 1, 60, 70, 80)


def text_of(books: list[int] | None = None) -> Tokens:
    ids = np.random.default_rng(0).integers(1, 320, sum(LENGTHS)).astype("<u2")
    return Tokens(ids, np.cumsum([0, *LENGTHS[:-1]]), books=None if books is None else np.asarray(books))


def test_starts_reach_to_the_full_context_and_to_half_of_what_is_read_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    text = text_of()

    def longest(positions: int | None) -> int:
        return max(map(len, held_out_starts(text, 16, positions, Begin()).rows))

    assert list(map(longest, (64, 72, None))) == [65, 73, 17]
    monkeypatch.setattr(module, "_MOST", 60)
    assert longest(64) == 31


def test_all_books_are_begun_before_one_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST", 100)
    found = held_out_starts(text_of([0, 0, 0, 1, 1, 1]), 64, 64, Begin())
    assert found.sources.tolist() == [0, 1, 0] and list(map(len, found.rows)) == [40, 51, 12], "11 tokens were left"


def test_it_is_agreement_position_and_how_both_go_on(tokenizer: PreTrainedTokenizerFast) -> None:
    target, reference = (untrained_model("llama", seed, initializer_range=0.3).eval() for seed in (1, 2))
    text = held_out_starts(text_of(), 16, 64, Begin())
    found = token_by_token(target, reference, tokenizer, text, Match(confidence=0.9))
    own, other = (
        OnRows(rows=text.rows, losses=token_losses(one, text.rows), owner=np.arange(5), sources=text.sources)
        for one in (target, reference)
    )
    assert found.documents == 5 and found.agreement == agreement(target, reference, own, other, 0.9)
    (outside,) = compare_outside(target, reference, {"x": text}, Match(confidence=0.9)).texts
    assert found.by_position == outside.by_position and found.by_position[0].tokens == sum(map(len, own.losses))
    assert found.going_on == going_on(target, reference, tokenizer, own, 0.9)
    read = 2 * sum(map(len, own.losses)) + 5 * (32 + 32)
    assert found.tokens == 2 * read and found.flops == 2 * read * forward_flops_per_token(target, 64)
