"""The sequences that a diagnosis and a repair read."""

import json
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import BEGIN, VOCABULARY, with_begin
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

from inheritune.data.documents import Document
from inheritune.data.kinds.hub import Hub
from inheritune.data.store import Tokens
from inheritune.diagnosis.text import read_text, spread_windows
from inheritune.models.load import tokens_of
from inheritune.records.profile import DocumentsRead


@pytest.mark.parametrize(("single", "begin"), [("$A", []), (f"{BEGIN} <second> $A", [VOCABULARY, VOCABULARY + 1])])
def test_every_sequence_opens_with_the_begin_and_the_text_goes_on_behind_it(
    single: str, begin: list[int], texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words, some = with_begin(tokenizer, single), texts[:8]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    (tmp_path / "some.txt").write_text(" ".join(some))
    packed = list(chain.from_iterable([*tokenizer(text)["input_ids"], 0] for text in some))
    spread = spread_windows(str(tmp_path / "some.jsonl"), words, 16, 999).tolist()
    for rows, ids in (
        (in_text_order(spread), packed),
        (tokens_of(tmp_path / "some.txt", words, 16, 999).tolist(), tokenizer(" ".join(some))["input_ids"]),
    ):
        assert all(len(row) == 16 and row[: len(begin)] == begin for row in rows)
        read = list(chain.from_iterable(row[len(begin) :] for row in rows))
        assert read == ids[: len(read)] and len(ids) - len(read) < 16
    plain = spread_windows(str(tmp_path / "some.jsonl"), words, 16, 999, begin="none")
    assert (
        list(chain.from_iterable(in_text_order(plain.tolist()))) == packed[: plain.numel()]
        and len(packed) - plain.numel() < 16
    )


def in_text_order(rows: list[list[int]]) -> list[list[int]]:
    """Rows of `spread_windows` as the text has them."""
    return [rows[place] for place in np.argsort(np.argsort(np.arange(len(rows)) * (5**0.5 - 1) / 2 % 1))]


BOOKS, WORDS = 22, 1500


@pytest.fixture(scope="module")
def counting() -> PreTrainedTokenizerFast:
    """A tokenizer of words that are numbers, so that an id tells its book and its place in it."""
    ids = {str(number): number for number in range(BOOKS * WORDS)}
    words = Tokenizer(WordLevel({**ids, "<end>": BOOKS * WORDS, "<unk>": BOOKS * WORDS + 1}, "<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<end>", unk_token="<unk>")


def book(number: int, words: int = WORDS) -> str:
    return " ".join(map(str, range(number * WORDS, number * WORDS + words)))


@pytest.mark.parametrize(
    ("length", "count", "documents"),
    [(20, 8, 8), (20, 16, 16), (20, 22, 22), (20, 100, 22), (64, 300, 22), (600, 5, 5)],
)
def test_sequences_come_from_as_many_documents_as_there_are(
    length: int, count: int, documents: int, counting: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Oracle: each id names its document, and none is read twice."""
    source = tmp_path / "books.jsonl"
    source.write_text("".join(json.dumps({"text": book(number)}) + "\n" for number in range(BOOKS)))
    text = read_text(str(source), counting, 0)
    rows_NT, read = text.windows(counting, length, count)
    assert rows_NT.shape == (count, length) and (read.of, read.whole) == (BOOKS, True)
    asked = rows_NT[rows_NT < BOOKS * WORDS]
    assert len(asked.unique()) == len(asked)
    books = [set((row[row < BOOKS * WORDS] // WORDS).tolist()) for row in rows_NT]
    assert read.read == len(set.union(*books)) and all(len(one) <= 2 for one in books)
    assert len({min(one) for one in books}) == documents
    assert torch.equal(spread_windows(str(source), counting, length, count), rows_NT)
    each = np.bincount([min(one) for one in books])
    assert each.max() - each[each > 0].min() <= 1
    assert len(set.union(*books[:8])) >= min(8, count) - 2, "the first few are spread too"
    inside = rows_NT[:, 0] % WORDS
    assert inside.max() > WORDS / 2, "not the beginnings alone"


def test_a_long_document_leaves_room_for_the_short_ones(counting: PreTrainedTokenizerFast) -> None:
    listed = [*(book(number, 25) for number in range(10)), book(10), *(book(number, 25) for number in range(11, 22))]
    for wanted in (12, 40):
        rows_NT, read = read_text(listed, counting, 0).windows(counting, 10, wanted)
        books = [set((row[row < BOOKS * WORDS] // WORDS).tolist()) for row in rows_NT]
        assert len(set.union(*books)) == read.read >= min(wanted, 22) and len(rows_NT) == wanted
        assert (read.of, read.whole) == (22, True)


def test_of_a_source_that_does_not_end_the_first_part_is_read(
    counting: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (Document(str(number), book(number % BOOKS)) for number in count())
    monkeypatch.setattr("inheritune.diagnosis.text.documents", lambda *_: endless)
    monkeypatch.setattr(Hub, "part", 100_000)
    rows_NT, read = read_text("hf:owner/name", counting, 0).windows(counting, 20, 50)
    assert (read.whole, rows_NT.shape) == (False, (50, 20)) and 10 < read.read == read.of < 20
    assert len(read_text("hf:owner/name", counting, 200_000).documents) > 20


def test_tokens_of_a_run_tell_their_documents() -> None:
    tokens = Tokens(np.arange(20), np.asarray([0, 5, 10, 15]))
    assert tokens.documents_in([(0, 3), (1, 4), (12, 16)]) == DocumentsRead(read=3, of=4, whole=True)
    sections = replace(tokens, books=np.asarray([0, 0, 7, 7]))
    assert sections.documents_in([(0, 10)]) == DocumentsRead(read=1, of=2, whole=True)
