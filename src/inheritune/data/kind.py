"""The interface of each kind of text source. A kind is one class in one file of `kinds/`, and stands in a list there."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from inheritune.config.sections import Source
from inheritune.data.coding import Coding
from inheritune.data.documents import Document, Encoded
from inheritune.data.files import File
from inheritune.errors import DataError


class SourceKind(ABC):
    """A source of one kind: whether it is there, what its content depends on, and its documents, as text or as ids."""

    streamed: ClassVar[bool] = False  # it comes over a network and may break off
    part: ClassVar[int] = 32_000_000  # characters read if sequences from all over it are wanted, but not all of it

    def __init__(self, source: Source):
        self.source, self.place = source, Path(source.source).expanduser()

    @classmethod
    @abstractmethod
    def claims(cls, source: Source) -> bool:
        """Whether a source is of this kind, by its name and the files that exist."""

    def fingerprint(self) -> str:
        """What the content depends on, without reading it: the names, sizes and times of its files, if it has any.

        Raises DataError where the source is not there.
        """
        stats = [(str(path.resolve()), path.stat()) for _, path in self.contents()]
        return json.dumps([self.source.split, *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)])

    def require(self) -> None:
        """Raise DataError where the source is not there, without reading it."""
        self.fingerprint()

    def documents(self, field: str) -> Iterator[Document]:
        """Stream the documents as text; `field` names the text of a row. Raises DataError for a source of tokens."""
        raise DataError(f"{self.source.source!r} holds tokens, and text is needed here: give its text")

    def encoded(self, coding: Coding) -> Iterator[Encoded] | None:
        """The documents as ids, for a source of tokens; None for text, which is still to be tokenised."""
        return None

    def contents(self) -> list[tuple[str, Path]]:
        """The files that the source is made of, by names that are the same on all machines; empty if it has none."""
        return []


class FileKind(ABC):
    """A kind of file, known by its suffix: text, rows or tokens."""

    suffixes: ClassVar[tuple[str, ...]]
    packed: ClassVar[bool] = False  # .gz, .xz and .zst of it are read too
    of_tokens: ClassVar[bool] = False

    @abstractmethod
    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The documents in a file of text, streamed."""

    def encoded(self, file: File, coding: Coding) -> Iterator[Encoded]:
        """The documents in a file of tokens, each closed by the end and without a begin of text."""
        raise NotImplementedError
