"""Tokens on disk: a finished folder of two sides, `train` and `valid`, and how it is read.

`SIDE.bin` holds the ids in one row (little-endian, 2 or 4 bytes, as nanoGPT writes them): each document between the tokenizer's
begin of text, if it puts one, and its end. `SIDE.starts` has the start of each document, `SIDE.books` the book that it is a section
of (8 bytes each). `SIDE.asked`, there if the loss covers the assistant's turns alone, has a byte for each id: 1 if the loss covers it.
`manifest.json` says what the folder was made from, and is there once the folder is finished.
"""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from inheritune.data.coding import Coding
from inheritune.disk.files import read_whole
from inheritune.errors import DataError, OutputError
from inheritune.records.prepared import Manifest, PreparedSide
from inheritune.records.profile import DocumentsRead

SIDES = ("train", "valid")
MANIFEST, FORMAT = Manifest.NAME, "inheritune tokens 2"
_OLDER = "inheritune tokens 1"  # without books
_PROBE = "Naïve  café\n\n\tdef f(x): return x*1234567 -- 日本語, 👍🏽 don't  ...\r\nABCdef"


@dataclass(frozen=True)
class Part:
    """What one source gave: tokens `first` to `last` of the row, and its weight among the parts."""

    name: str
    first: int
    last: int
    weight: float


@dataclass(frozen=True)
class Tokens:
    """Documents in one row of ids (memory-mapped), with the start of each and, if that is not the next start, its end.

    Each document in `ids` opens with `begin` ids that are no part of it (the tokenizer's begin of text): they are neither
    counted nor read, and the code that makes sequences of the text puts in front what the model wants there. `digest` is of all
    that is stored of them. `books` has the number of the book (a whole text) that each document is a section of; without
    it each is its own. `shares_books`: other sections of the same books are on the other side. `asked` says for each of `ids` whether
    the loss covers it; None: all.
    """

    ids: np.ndarray
    starts: np.ndarray
    parts: tuple[Part, ...] = ()
    ends: np.ndarray | None = None
    digest: str = ""
    begin: int = 0
    books: np.ndarray | None = None
    shares_books: bool = False
    asked: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids) - self.begin * len(self.starts)

    def document(self, index: int) -> np.ndarray:
        """The tokens of one document."""
        return self.ids[self._place(index)]

    def asked_of(self, index: int) -> np.ndarray | None:
        """Which tokens of one document the loss covers; None: all."""
        return None if self.asked is None else self.asked[self._place(index)]

    def _place(self, index: int) -> slice:
        start = self.starts[index] + self.begin
        if self.ends is not None:
            return slice(start, self.ends[index])
        return slice(start, self.starts[index + 1] if index + 1 < len(self.starts) else len(self.ids))

    @property
    def sizes(self) -> np.ndarray:
        """The number of tokens of each document."""
        ends = np.append(self.starts[1:], len(self.ids)) if self.ends is None else self.ends
        return ends - self.starts - self.begin

    def read(self, first: int, last: int) -> np.ndarray:
        """Tokens `first` to `last` of the documents one after another; fewer where the row ends before."""
        return self._read(self.ids, first, last)

    def read_asked(self, first: int, last: int) -> np.ndarray | None:
        """Which of the tokens `first` to `last` the loss covers; None: all."""
        return None if self.asked is None else self._read(self.asked, first, last)

    def documents_in(self, spans: Sequence[tuple[int, int]]) -> DocumentsRead:
        """How many documents these spans of tokens come from; books, if documents are sections of some."""
        books = np.arange(len(self.starts)) if self.books is None else np.asarray(self.books)
        read = [books[self._document_at(first) : self._document_at(last - 1) + 1] for first, last in spans]
        return DocumentsRead(read=len(np.unique(np.concatenate(read))), of=len(np.unique(books)), whole=True)

    def _read(self, row: np.ndarray, first: int, last: int) -> np.ndarray:
        last = min(last, len(self))
        if not self.begin or first >= last:
            return row[first:last]
        low, high = self._document_at(first), self._document_at(last - 1)
        start = first + self.begin * (low + 1)
        found = row[start : last + self.begin * (high + 1)]
        opened = np.asarray(self.starts[low + 1 : high + 1]) - start
        return np.delete(found, (opened[:, None] + np.arange(self.begin)).ravel())

    def _document_at(self, token: int) -> int:
        numbers = range(len(self.starts))
        return bisect_right(numbers, token, key=lambda number: self.starts[number] - self.begin * number) - 1


def read_side(folder: Path, side: str) -> Tokens:
    """One side of a finished folder, memory-mapped; DataError where its files are not what its manifest says."""
    manifest = read_manifest(folder)
    told: PreparedSide = getattr(manifest.sides, side)
    ids = _mapped(folder / f"{side}.bin", f"<u{manifest.bytes}", told.tokens)
    starts = _mapped(folder / f"{side}.starts", "<i8", told.documents)
    own = told.books in (None, told.documents)
    books = None if own else _mapped(folder / f"{side}.books", "<i8", told.documents)
    asked = None if told.asked_sha256 is None else _mapped(folder / f"{side}.asked", "?", told.tokens)
    digests = (told.sha256, told.starts_sha256, told.books_sha256, told.asked_sha256)
    marks = " ".join(digest for digest in digests if digest is not None)
    return Tokens(ids, starts, digest=marks, begin=len(manifest.begin), books=books, asked=asked)


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    there = path.stat().st_size if path.is_file() else 0
    if there != count * np.dtype(dtype).itemsize:
        raise DataError(f"{str(path)!r} has {there} bytes and its manifest promises {count} entries: prepare it again")
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype=dtype)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished folder; DataError if it was not written by this program."""
    try:
        found = json.loads(read_whole(folder / MANIFEST))
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{str(folder / MANIFEST)!r} cannot be read: prepare the folder again") from None
    if not isinstance(found, dict) or found.get("format") not in (FORMAT, _OLDER):
        raise DataError(f"{str(folder)!r} has a manifest of another kind: give a folder of `inheritune prepare`")
    try:
        return Manifest.load(folder / MANIFEST)
    except OutputError as error:
        raise DataError(str(error)) from None


def require_same_coding(folder: Path, manifest: Manifest, coding: Coding) -> None:
    """Raise DataError if prepared tokens are of another tokenizer or chat template, or lack the marks of the assistant's tokens."""
    if manifest.tokenizer != tokenizer_fingerprint(coding.tokenizer) or manifest.end != coding.end:
        raise DataError(
            f"{str(folder)!r} was prepared with another tokenizer than the model's: prepare it again with it"
        )
    if manifest.chat not in (None, coding.chat.fingerprint):
        raise DataError(
            f"{str(folder)!r} was prepared with another chat template than the model's: prepare it again with it"
        )
    if coding.chat.of_assistant and manifest.loss_on is None:
        raise DataError(
            f"{str(folder)!r} does not tell which tokens are the assistant's, for which alone data.loss_on asks: prepare it again with"
            " --loss-on assistant, or give data.loss_on: all"
        )


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """A digest of what a tokenizer does: its vocabulary, and how it cuts a probe text."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items())
    return hashlib.sha256(json.dumps([vocabulary, tokenizer.encode(_PROBE).ids]).encode()).hexdigest()
