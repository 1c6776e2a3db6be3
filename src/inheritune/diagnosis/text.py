"""Turn text into the sequences that a diagnosis reads, spread over all its documents.

Shapes: N sequences, T tokens, W windows in all.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from inheritune.data.corpora import documents, named
from inheritune.data.documents import Document
from inheritune.data.kinds import source_kind
from inheritune.errors import DataError
from inheritune.models.begin import AUTO, Begin, begin_of
from inheritune.models.chat import chat_of
from inheritune.records.profile import DocumentsRead

# Characters tokenised for every token asked for: enough to choose sequences from, little enough to be quick.
CHARACTERS_A_TOKEN = 40
_LONGEST_TOKEN = 8  # characters per token; no text has more on average
_LONGEST_WORD = 100
_GOLDEN = (5**0.5 - 1) / 2  # multiples of it, modulo 1, fill the range evenly however many there are


class Windows(NamedTuple):
    """Sequences (N, T), of which any first few are spread over the text too; and how many documents they come from."""

    tokens_NT: Tensor
    documents: DocumentsRead


def spread_windows(
    source: str | list[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    count: int,
    field: str = "text",
    begin: str = AUTO,
) -> Tensor:
    """`count` sequences of `length` tokens of a source, or of a list of texts, spread over its documents: (N, T).

    Raises as `read_text` and `SomeText.windows` do.
    """
    text = read_text(source, tokenizer, CHARACTERS_A_TOKEN * length * count, field)
    return text.windows(tokenizer, length, count, begin).tokens_NT


def read_text(
    source: str | list[str], tokenizer: PreTrainedTokenizerBase, needed: int, field: str = "text"
) -> "SomeText":
    """The documents of a source as `--text` names it, or of a list of texts: all, or the first part of a large source.

    The first part is as many characters as the source's kind says, or `needed` if that is more. Raises DataError if there is no text.
    """
    if not isinstance(source, str):
        return SomeText("The text", [Document(str(n), text) for n, text in enumerate(source) if text.strip()], True)
    most, found = max(needed, source_kind(named(source)).part), list[Document]()
    size = 0
    for document in documents(source, field, chat_of(tokenizer)):
        if size >= most:
            return SomeText(repr(source), found, False)
        found.append(document)
        size += len(document.text)
    return SomeText(repr(source), found, True)


@dataclass(frozen=True)
class SomeText:
    """Documents one after another; a place in them is a number of characters; `whole`: they are all that the source has."""

    name: str
    documents: list[Document]
    whole: bool

    def windows(self, tokenizer: PreTrainedTokenizerBase, length: int, count: int, begin: str = AUTO) -> Windows:
        """`count` sequences of `length` tokens that do not overlap, from as many different documents as possible.

        Sections of one book are one document. A short document is followed by the next, with the end token between, and the
        begin of text (as in a recipe's `data.begin`) opens each sequence. Raises DataError if the text is too short for
        one sequence, RecipeError for a begin that is no token.
        """
        if length < 2 or count < 1:
            raise DataError(
                f"{count} sequences of {length} tokens were asked for: at least 1 of at least 2 are needed."
            )
        opens = begin_of(tokenizer, begin)
        own = length - len(opens)
        runs = [self._encoded(run, tokenizer, opens) for run in self._runs(length, count)]
        if own < 1 or all(len(ids) < own for ids, _ in runs):
            tokens = sum(len(ids) for ids, _ in runs)
            raise DataError(
                f"{self.name} holds {tokens} tokens: a sequence of {length} needs more text or a smaller --length."
            )
        ids_WT, books_WT = (
            np.concatenate([each[: len(each) // own * own] for each in kind]).reshape(-1, own)
            for kind in zip(*runs, strict=True)
        )
        chosen = _spread(books_WT[:, 0], count)
        tokens_NT = torch.from_numpy(np.stack([opens.before(row) for row in ids_WT[chosen]]))
        read = len(np.unique(books_WT[chosen]))
        return Windows(tokens_NT, DocumentsRead(read=read, of=int(self._books[-1]) + 1, whole=self.whole))

    @cached_property
    def _books(self) -> np.ndarray:
        """The number of the book that each document is a section of; one of its own for a document that is no section."""
        names = [document.book for document in self.documents]
        return np.cumsum([0, *(one != other for one, other in pairwise(names))])

    @cached_property
    def _ends(self) -> np.ndarray:
        """The number of characters at which each document ends."""
        return np.cumsum([len(document.text) for document in self.documents])

    def _runs(self, length: int, count: int) -> list[tuple[int, int]]:
        """The spans of characters that are tokenised: all of a small text, else a piece for each sequence."""
        piece, total = CHARACTERS_A_TOKEN * length, int(self._ends[-1])
        if total <= piece * count:
            return [(0, total)]
        ends = self._ends[np.flatnonzero(np.diff(self._books, append=-1))]
        sizes, places = np.diff(ends, prepend=0), list[int]()
        shares = _shares(np.maximum(1, sizes // (_LONGEST_TOKEN * length)), count)
        for book in np.flatnonzero(shares):
            part = sizes[book] / shares[book]
            into = (book * _GOLDEN % 1) * max(0, part - piece)  # not the same place in every book
            places += [int(ends[book] - sizes[book] + n * part + into) for n in range(shares[book])]
        return _joined([(at, min(at + piece, after)) for at, after in zip(places, [*places[1:], total], strict=True)])

    def _encoded(
        self, run: tuple[int, int], tokenizer: PreTrainedTokenizerBase, opens: Begin
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a span of characters, with an end token after each document, and the number of each id's book."""
        ids, books, end = list[int](), list[int](), tokenizer.eos_token_id
        first, last = np.searchsorted(self._ends, [run[0], run[1] - 1], side="right")
        for number in range(first, last + 1):
            document = self.documents[number]
            start = int(self._ends[number]) - len(document.text)
            text = _from_a_word(document.text[: run[1] - start], max(0, run[0] - start))
            ids += opens.without(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            closed = document.messages and ids[-1:] == [end]
            if end is not None and run[1] >= self._ends[number] and not closed:
                ids.append(end)
            books += [int(self._books[number])] * (len(ids) - len(books))
        return np.asarray(ids, dtype=np.int64), np.asarray(books, dtype=np.int64)


def _from_a_word(text: str, start: int) -> str:
    """A text from the first space at `start` or soon after: half a word has other tokens than a word."""
    return text[max(start, text.find(" ", start, start + _LONGEST_WORD)) :] if start else text


def _joined(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop empty runs, and merge those that touch."""
    found = list[tuple[int, int]]()
    for first, last in runs:
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], last)
        elif first < last:
            found.append((first, last))
    return found


def _shares(rooms: np.ndarray, count: int) -> np.ndarray:
    """Divide `count` among several as equally as their `rooms` allow; the remainder goes to some at even distances."""
    given = np.zeros_like(rooms)
    while (left := count - int(given.sum())) > 0 and (wanting := np.flatnonzero(given < rooms)).size:
        some = np.linspace(0, len(wanting) - 1, min(left, len(wanting))).round().astype(int)
        given[wanting[some]] += 1
    return given


def _spread(books_W: np.ndarray, count: int) -> np.ndarray:
    """Choose `count` windows, given each window's book, such that any first few of them are spread over the text too."""
    _, firsts, rooms = np.unique(books_W, return_index=True, return_counts=True)
    shares = _shares(rooms, count)
    into = np.arange(len(rooms)) * _GOLDEN % 1  # not the same place in every book
    chosen = np.concatenate(
        [
            firsts[book] + ((np.arange(shares[book]) + into[book]) * rooms[book] / shares[book]).astype(int)
            for book in np.flatnonzero(shares)
        ]
    )
    return chosen[np.argsort(np.arange(len(chosen)) * _GOLDEN % 1)]
