"""The question that a run asks its reference, put to models whose answer is known."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from inheritune.evaluation.beginnings import compare_beginnings
from inheritune.evaluation.sanity import explained_nats_per_byte
from inheritune.models.begin import Begin

VOCABULARY, BOS, END = 50, 48, 49
NONE = Begin()


class Counting(nn.Module):
    """Knows that tokens count upwards, but only behind `BOS`; else it guesses."""

    device = torch.device("cpu")
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(vocab_size=VOCABULARY))

    def get_input_embeddings(self) -> nn.Embedding:
        return nn.Embedding(VOCABULARY, 1)

    def forward(self, input_ids: Tensor, use_cache: bool) -> SimpleNamespace:
        logits = nn.functional.one_hot((input_ids + 1) % VOCABULARY, VOCABULARY).float() * 100
        return SimpleNamespace(logits=logits * (input_ids[:, :1, None] == BOS))


def rows() -> list[np.ndarray]:
    return [np.arange(first, first + 16) for first in range(8)]


def test_a_model_that_is_lost_without_its_begin_says_so() -> None:
    found = compare_beginnings(Counting(), rows(), [NONE, Begin((END,)), Begin((BOS,))])
    assert found.losses == pytest.approx([math.log(VOCABULARY), math.log(VOCABULARY), 0.0])
    assert found.better == 2 and found.tokens == 8 * (16 + 17 + 17)


def test_it_is_counted_row_by_row() -> None:
    told = list[tuple[int, int]]()
    compare_beginnings(Counting(), rows(), [NONE, Begin((BOS,))], count=lambda *parts: told.append(parts))
    assert told == [(done, 16) for done in (0, 4, 8, 12, 16)]


def test_the_best_begin_is_left_alone() -> None:
    assert compare_beginnings(Counting(), rows(), [Begin((BOS,)), NONE]).better is None
    assert compare_beginnings(Counting(), rows(), [NONE, Begin((END,))]).better is None


def test_what_a_size_explains_leaves_room_for_what_real_models_have() -> None:
    """Gemma 3 270M on a book: 3.3 nats and 4.2 bytes a token as it was trained to read, 5.64 without its begin of text."""
    explained = explained_nats_per_byte(268_000_000)
    assert 3.3 / 4.2 < explained < 5.64 / 4.2
    assert explained_nats_per_byte(50_000) > math.log(256), "a toy of bytes that knows nothing is no wonder"
