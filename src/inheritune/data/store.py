"""Tokens on disk: a folder of two sides, `train` and `valid`, that grows by whole documents and goes on after a kill.

`SIDE.bin` holds the ids in one row (little-endian, 2 or 4 bytes, as nanoGPT writes them): each document between the tokenizer's
begin of text, where it puts one, and its end. `SIDE.starts` says where each starts, `SIDE.books` of which book it is a section (8
bytes each). `journal.jsonl` says after each chunk how much of all is whole; `manifest.json` replaces it at the end.
"""

import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError
from tokenizers import Tokenizer

from inheritune.data.coding import Coding
from inheritune.data.documents import Encoded
from inheritune.data.sections import is_long
from inheritune.disk.files import digest, no_link, sync, write_text
from inheritune.errors import DataError, OutputError
from inheritune.records.entry import first_fault
from inheritune.records.prepared import JournalLine, Manifest

SIDES = ("train", "valid")
JOURNAL, MANIFEST, FORMAT = "journal.jsonl", "manifest.json", "inheritune tokens 2"
_OLDER = "inheritune tokens 1"  # without books
OF_END = ("read", "sizes", "repeats", "held_out")  # what a manifest says of a source that is read
_KINDS = ("bin", "starts", "books")
_FILES = tuple(f"{side}.{kind}" for side in SIDES for kind in _KINDS)
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
    """Documents in one row of ids (memory-mapped), where each starts in it and, if not at the next start, ends.

    Each document in `ids` opens with `begin` ids that are no part of it (the tokenizer's begin of text): they are neither
    counted nor read, and whoever makes sequences of the text puts in front what the model wants there. `digest` is of the ids and the
    starts as they are stored. `books` has the number of the book (a whole text) that each
    document is a section of; without it each is its own. `shares_books`: other sections of the same books are on the other side.
    """

    ids: np.ndarray
    starts: np.ndarray
    parts: tuple[Part, ...] = ()
    ends: np.ndarray | None = None
    digest: str = ""
    begin: int = 0
    books: np.ndarray | None = None
    shares_books: bool = False

    def __len__(self) -> int:
        return len(self.ids) - self.begin * len(self.starts)

    def document(self, index: int) -> np.ndarray:
        """The tokens of one document."""
        start = self.starts[index] + self.begin
        if self.ends is not None:
            return self.ids[start : self.ends[index]]
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.ids)
        return self.ids[start:end]

    @property
    def sizes(self) -> np.ndarray:
        """Tokens of each document."""
        ends = np.append(self.starts[1:], len(self.ids)) if self.ends is None else self.ends
        return ends - self.starts - self.begin

    def read(self, first: int, last: int) -> np.ndarray:
        """Tokens `first` to `last` of the documents one after another; fewer where the row ends before."""
        last = min(last, len(self))
        if not self.begin or first >= last:
            return self.ids[first:last]
        low, high = self._document_at(first), self._document_at(last - 1)
        start = first + self.begin * (low + 1)
        found = self.ids[start : last + self.begin * (high + 1)]
        opened = np.asarray(self.starts[low + 1 : high + 1]) - start
        return np.delete(found, (opened[:, None] + np.arange(self.begin)).ravel())

    def _document_at(self, token: int) -> int:
        numbers = range(len(self.starts))
        return bisect_right(numbers, token, key=lambda number: self.starts[number] - self.begin * number) - 1


def read_side(folder: Path, side: str) -> Tokens:
    """One side of a finished folder, memory-mapped; DataError where its files are not what its manifest says."""
    manifest = read_manifest(folder)
    told, width = manifest["sides"][side], manifest["bytes"]
    ids = _mapped(folder / f"{side}.bin", f"<u{width}", told["tokens"])
    starts = _mapped(folder / f"{side}.starts", "<i8", told["documents"])
    own = told.get("books", told["documents"]) == told["documents"]
    books = None if own else _mapped(folder / f"{side}.books", "<i8", told["documents"])
    begin = len(manifest.get("begin", []))
    marks = (told[mark] for mark in ("sha256", "starts_sha256", "books_sha256") if mark in told)
    return Tokens(ids, starts, digest=" ".join(marks), begin=begin, books=books)


def _mapped(path: Path, dtype: str, count: int) -> np.ndarray:
    there = path.stat().st_size if path.is_file() else 0
    if there != count * np.dtype(dtype).itemsize:
        raise DataError(f"{str(path)!r} has {there} bytes and its manifest promises {count} entries: prepare it again")
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=dtype, mode="r") if count else np.empty(0, dtype=dtype)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished folder; DataError if it is none of ours."""
    try:
        found = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        raise DataError(f"{str(folder / MANIFEST)!r} cannot be read: prepare the folder again") from None
    if not isinstance(found, dict) or found.get("format") not in (FORMAT, _OLDER):
        raise DataError(f"{str(folder)!r} has a manifest of another kind: give a folder of `inheritune prepare`")
    try:
        Manifest.load(folder / MANIFEST)
    except OutputError as error:
        raise DataError(str(error)) from None
    return found


def require_same_tokenizer(folder: Path, manifest: dict[str, Any], coding: Coding) -> None:
    """Raise DataError where prepared tokens were made by another tokenizer."""
    if manifest["tokenizer"] != tokenizer_fingerprint(coding.tokenizer) or manifest["end"] != coding.end:
        raise DataError(
            f"{str(folder)!r} was prepared with another tokenizer than the model's: prepare it again with it"
        )


def tokenizer_fingerprint(tokenizer: Tokenizer) -> str:
    """What a tokenizer does: its vocabulary, and how it cuts a probe."""
    vocabulary = sorted(tokenizer.get_vocab(with_added_tokens=True).items())
    return hashlib.sha256(json.dumps([vocabulary, tokenizer.encode(_PROBE).ids]).encode()).hexdigest()


@dataclass
class Preparation:
    """How far a preparation is: `read` documents of source `source`, and each side's tokens, documents and books in all.

    `ends` has the same at the end of each source that is done. `book` is the one read last, `section` which document of it that was,
    and `sides` where it stands. A source is read by its books first, and `by_section` where too few of them were held out.
    """

    source: int = 0
    read: int = 0
    repeats: int = 0
    sizes: dict[str, list[int]] = field(default_factory=lambda: {side: [0, 0, 0] for side in SIDES})
    ends: list[dict[str, Any]] = field(default_factory=list)
    book: str = ""
    section: int = 0
    sides: list[str] = field(default_factory=list)
    by_section: bool = False
    has_long: bool = False

    @property
    def books_held_out(self) -> int:
        """Books of this source that have held out documents."""
        return self.sizes["valid"][2] - (self.ends[-1]["sizes"]["valid"][2] if self.ends else 0)

    def count(self, document: Encoded) -> None:
        """One more document was read."""
        self.read += 1
        if self.read > 1 and document.book == self.book:
            self.section += 1
        else:
            self.book, self.section, self.sides = document.book, 0, []
        self.has_long = self.has_long or self.section > 0 or is_long(document)

    def end_source(self, held_out: str | None) -> "Preparation":
        """The state before the next source."""
        sizes = {side: list(size) for side, size in self.sizes.items()}
        end = {"read": self.read, "sizes": sizes, "repeats": self.repeats, "held_out": held_out}
        return Preparation(self.source + 1, 0, self.repeats, self.sizes, [*self.ends, end])

    def again_by_section(self) -> "Preparation":
        """The state before this source, which is to be read by section."""
        before = self.ends[-1] if self.ends else vars(Preparation())
        sizes = {side: list(size) for side, size in before["sizes"].items()}
        return Preparation(self.source, 0, before["repeats"], sizes, self.ends, by_section=True)


class Writer:
    """Appends documents to a folder, and goes on where the journal says that everything was whole."""

    def __init__(self, folder: Path, dtype: np.dtype, job: dict[str, Any]):
        self.folder, self.dtype = folder, dtype
        lines = _whole_lines(folder / JOURNAL)
        self.state = _state_of(lines[-1], folder) if len(lines) > 1 else Preparation()
        self._files = {side: [self._open(f"{side}.{kind}") for kind in _KINDS] for side in SIDES}
        self._cut_back()
        self._journal = self._open(JOURNAL)
        sync(folder)
        self._journal.truncate(sum(map(len, lines)))
        self._journal.seek(0, os.SEEK_END)
        if not lines:
            self._write_line(job)

    def _open(self, name: str) -> Any:
        path = self.folder / name
        return open(path, "r+b" if path.exists() else "x+b", buffering=1 << 20, opener=no_link)

    def _cut_back(self) -> None:
        for side, files in self._files.items():
            tokens, documents, _ = self.state.sizes[side]
            for file, size in zip(files, (tokens * self.dtype.itemsize, documents * 8, documents * 8), strict=True):
                if file.seek(0, os.SEEK_END) < size:
                    raise _damaged(self.folder, f"{side!r} is shorter than it says")
                file.truncate(size)
                file.seek(size)

    @property
    def tokens(self) -> int:
        """Tokens so far, of both sides."""
        return sum(tokens for tokens, _, _ in self.state.sizes.values())

    def documents(self) -> Iterator[np.ndarray]:
        """The documents so far."""
        self._flush()
        for side in SIDES:
            tokens, documents, _ = self.state.sizes[side]
            if documents:
                ids = np.memmap(self.folder / f"{side}.bin", dtype=self.dtype, mode="r", shape=(tokens,))
                starts = np.fromfile(self.folder / f"{side}.starts", dtype="<i8", count=documents)
                row = Tokens(ids, starts)
                yield from (row.document(number) for number in range(documents))

    def add(self, side: str, row: bytes) -> None:
        """Append the ids of the document that was counted last."""
        ids, starts, books = self._files[side]
        size = self.state.sizes[side]
        if side not in self.state.sides:
            self.state.sides.append(side)
            size[2] += 1
        starts.write(size[0].to_bytes(8, "little"))
        books.write((size[2] - 1).to_bytes(8, "little"))
        ids.write(row)
        size[0] += len(row) // self.dtype.itemsize
        size[1] += 1

    def end_source(self, held_out: str | None) -> None:
        """The next source begins; what decided the sides of this one's documents is kept: `books` or `sections`."""
        self.state = self.state.end_source(held_out)
        self.save()

    def again_by_section(self) -> None:
        """Go back to where this source began."""
        self.state = self.state.again_by_section()
        self._write_line(vars(self.state))
        self._cut_back()

    def save(self) -> None:
        """Make everything so far last: the data first, then the journal that says so."""
        self._flush()
        for file in chain.from_iterable(self._files.values()):
            os.fsync(file.fileno())
        self._write_line(vars(self.state))

    def _flush(self) -> None:
        for file in chain.from_iterable(self._files.values()):
            file.flush()

    def _write_line(self, row: dict[str, Any]) -> None:
        self._journal.write(json.dumps(row).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def remove(self) -> None:
        """Let go of the files, and remove them."""
        self.close()
        for name in (*_FILES, JOURNAL):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the files."""
        for file in (self._journal, *chain.from_iterable(self._files.values())):
            file.close()

    def finish(self, about: dict[str, Any]) -> None:
        """Write the manifest, which makes the folder a finished one."""
        self.save()
        sides = {
            side: {
                "tokens": tokens,
                "documents": documents,
                "books": books,
                "sha256": digest(self.folder / f"{side}.bin"),
                "starts_sha256": digest(self.folder / f"{side}.starts"),
                "books_sha256": digest(self.folder / f"{side}.books"),
            }
            for side, (tokens, documents, books) in self.state.sizes.items()
        }
        whole = {"format": FORMAT, "bytes": self.dtype.itemsize, "sides": sides, **about}
        write_text(self.folder / MANIFEST, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
        (self.folder / JOURNAL).unlink()


def job_of(folder: Path) -> dict[str, Any] | None:
    """What an unfinished folder is being made from; None if there is no journal. DataError where that is damaged."""
    lines = _whole_lines(folder / JOURNAL)
    try:
        found = json.loads(lines[0]) if lines else None
    except (ValueError, RecursionError):
        found = ()
    if found is None or isinstance(found, dict):
        return found
    raise _damaged(folder, "its first line is no object")


def _state_of(line: bytes, folder: Path) -> Preparation:
    try:
        found = JournalLine.model_validate_json(line, strict=True)
    except ValidationError as error:
        raise _damaged(folder, first_fault(error)) from None
    return Preparation(**found.model_dump(mode="json", exclude_unset=True))


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(
        f"{str(folder / JOURNAL)!r} is damaged ({what}): remove {str(folder)!r}, and the same command prepares it again"
    )


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]
