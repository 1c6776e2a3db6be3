"""Write a folder of tokens, by whole documents, and go on after a kill where its journal says.

The first line of `journal.jsonl` says what the folder is made from, a further line after each chunk how much of everything is
whole. The manifest replaces the journal at the end.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import ValidationError

from inheritune.data.documents import Encoded
from inheritune.data.sections import is_long
from inheritune.data.store import FORMAT, MANIFEST, SIDES, Tokens
from inheritune.disk.files import digest, no_link, sync, write_text
from inheritune.errors import DataError
from inheritune.records.entry import Entry, first_fault
from inheritune.records.prepared import (
    JournalLine,
    JournalStart,
    Manifest,
    Origin,
    PreparedSide,
    PreparedSides,
    PreparedSource,
    Sizing,
    SourceEnd,
)

JOURNAL = "journal.jsonl"
_KINDS, _ASKED = ("bin", "starts", "books"), "asked"
_FILES = tuple(f"{side}.{kind}" for side in SIDES for kind in (*_KINDS, _ASKED))
HeldOut = Literal["books", "sections"]


@dataclass
class Preparation:
    """How far a preparation is: `read` documents of source number `source`, and in `sizes` each side's tokens, documents and books.

    `ends` has the same at the end of each source that is done. `book` is the book read last, `section` the number of its last
    document, and `sides` the sides that it is on. A source is split by books first, and `by_section` if too few of them were held
    out. `rendered`: there was a conversation.
    """

    source: int = 0
    read: int = 0
    repeats: int = 0
    sizes: dict[str, list[int]] = field(default_factory=lambda: {side: [0, 0, 0] for side in SIDES})
    ends: list[SourceEnd] = field(default_factory=list)
    book: str = ""
    section: int = 0
    sides: list[str] = field(default_factory=list)
    by_section: bool = False
    has_long: bool = False
    rendered: bool = False

    @property
    def books_held_out(self) -> int:
        """Books of this source that have held out documents."""
        return self.sizes["valid"][2] - (self.ends[-1].sizes.valid[-1] if self.ends else 0)

    def count(self, document: Encoded) -> None:
        """Count one more document that was read."""
        self.read += 1
        if self.read > 1 and document.book == self.book:
            self.section += 1
        else:
            self.book, self.section, self.sides = document.book, 0, []
        self.has_long = self.has_long or self.section > 0 or is_long(document)
        self.rendered = self.rendered or document.rendered

    def end_source(self, held_out: HeldOut | None) -> "Preparation":
        """The state before the next source."""
        sizes = Sizing.model_validate(self.sizes)
        end = SourceEnd(read=self.read, sizes=sizes, repeats=self.repeats, held_out=held_out)
        return Preparation(self.source + 1, 0, self.repeats, self.sizes, [*self.ends, end], rendered=self.rendered)

    def again_by_section(self) -> "Preparation":
        """The state before this source, which is to be split by section."""
        if not self.ends:
            return Preparation(self.source, by_section=True, rendered=self.rendered)
        before = self.ends[-1]
        sizes = {side: list(getattr(before.sizes, side)) for side in SIDES}
        begun = Preparation(self.source, 0, before.repeats, sizes, self.ends, by_section=True)
        return replace(begun, rendered=self.rendered)

    def line(self) -> JournalLine:
        """The state as a line of the journal."""
        return JournalLine(**{**vars(self), "sizes": Sizing.model_validate(self.sizes)})


class Writer:
    """Appends documents to a folder, going on from the last state that the journal says is whole."""

    def __init__(self, folder: Path, dtype: np.dtype, start: JournalStart):
        self.folder, self.dtype = folder, dtype
        self.kinds = (*_KINDS, _ASKED) if start.loss_on else _KINDS
        lines = _whole_lines(folder / JOURNAL)
        self.state = _state_of(lines[-1], folder) if len(lines) > 1 else Preparation()
        self._files = {side: [self._open(f"{side}.{kind}") for kind in self.kinds] for side in SIDES}
        self._cut_back()
        self._journal = self._open(JOURNAL)
        sync(folder)
        self._journal.truncate(sum(map(len, lines)))
        self._journal.seek(0, os.SEEK_END)
        if not lines:
            self._write_line(start)

    def _open(self, name: str) -> Any:
        path = self.folder / name
        return open(path, "r+b" if path.exists() else "x+b", buffering=1 << 20, opener=no_link)

    def _cut_back(self) -> None:
        for side, files in self._files.items():
            tokens, documents, _ = self.state.sizes[side]
            sizes = (tokens * self.dtype.itemsize, documents * 8, documents * 8, tokens)
            for file, size in zip(files, sizes, strict=False):
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

    def add(self, side: str, row: bytes, asked: bytes = b"") -> None:
        """Append the ids of the document counted last and, if the loss covers only some, a byte for each."""
        ids, starts, books, *marks = self._files[side]
        size = self.state.sizes[side]
        if side not in self.state.sides:
            self.state.sides.append(side)
            size[2] += 1
        starts.write(size[0].to_bytes(8, "little"))
        books.write((size[2] - 1).to_bytes(8, "little"))
        ids.write(row)
        for file in marks:
            file.write(asked)
        size[0] += len(row) // self.dtype.itemsize
        size[1] += 1

    def end_source(self, held_out: HeldOut | None) -> None:
        """End a source; `held_out` is what decided the sides of its documents: `books` or `sections`."""
        self.state = self.state.end_source(held_out)
        self.save()

    def again_by_section(self) -> None:
        """Go back to where this source began, to split it by section."""
        self.state = self.state.again_by_section()
        self._write_line(self.state.line())
        self._cut_back()

    def save(self) -> None:
        """Sync everything so far to the disk: the data first, then the journal that says so."""
        self._flush()
        for file in chain.from_iterable(self._files.values()):
            os.fsync(file.fileno())
        self._write_line(self.state.line())

    def _flush(self) -> None:
        for file in chain.from_iterable(self._files.values()):
            file.flush()

    def _write_line(self, line: Entry) -> None:
        self._journal.write(json.dumps(line.model_dump(mode="json", exclude_unset=True)).encode() + b"\n")
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def remove(self) -> None:
        """Close the files and remove them."""
        self.close()
        for name in (*_FILES, JOURNAL):
            (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files."""
        for file in (self._journal, *chain.from_iterable(self._files.values())):
            file.close()

    def finish(self, origin: Origin, vocabulary: int, chat: str) -> None:
        """Write the manifest, which makes the folder finished; `chat` is the digest of the chat template that rendered conversations."""
        self.save()
        rendered = {"chat": chat} if self.state.rendered else {}
        made, ends = origin.model_dump(exclude_unset=True), self.state.ends
        sources = [
            {**source, **end.model_dump(exclude_unset=True)}
            for source, end in zip(made.pop("sources"), ends, strict=True)
        ]
        manifest = Manifest(
            **made,
            **rendered,
            format=FORMAT,
            bytes=2 if self.dtype.itemsize == 2 else 4,
            sides=PreparedSides(train=self._told("train"), valid=self._told("valid")),
            sources=[PreparedSource(**source) for source in sources],
            repeats=self.state.repeats,
            vocabulary=vocabulary,
        )
        text = json.dumps(manifest.model_dump(mode="json", exclude_unset=True), indent=1)
        write_text(self.folder / MANIFEST, text + "\n")
        (self.folder / JOURNAL).unlink()

    def _told(self, side: str) -> PreparedSide:
        tokens, documents, books = self.state.sizes[side]
        return PreparedSide(
            tokens=tokens,
            documents=documents,
            books=books,
            sha256=digest(self.folder / f"{side}.bin"),
            starts_sha256=digest(self.folder / f"{side}.starts"),
            books_sha256=digest(self.folder / f"{side}.books"),
            **({"asked_sha256": digest(self.folder / f"{side}.asked")} if _ASKED in self.kinds else {}),
        )


def job_of(folder: Path) -> JournalStart | None:
    """What an unfinished folder is being made from; None if there is no journal. Raises DataError if the journal is damaged."""
    lines = _whole_lines(folder / JOURNAL)
    try:
        return JournalStart.model_validate_json(lines[0], strict=True) if lines else None
    except ValidationError as error:
        raise _damaged(folder, first_fault(error)) from None


def _state_of(line: bytes, folder: Path) -> Preparation:
    try:
        found = JournalLine.model_validate_json(line, strict=True)
    except ValidationError as error:
        raise _damaged(folder, first_fault(error)) from None
    sizes = {side: list(getattr(found.sizes, side)) for side in SIDES}
    return Preparation(**{**vars(found), "sizes": sizes})


def _damaged(folder: Path, what: str) -> DataError:
    return DataError(
        f"{str(folder / JOURNAL)!r} is damaged ({what}): remove {str(folder)!r}, and the same command prepares it again"
    )


def _whole_lines(path: Path) -> list[bytes]:
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    return [line for line in lines if line.endswith(b"\n")]
