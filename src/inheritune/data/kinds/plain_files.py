"""Files as a source: a single one, those of a folder, or those that a glob finds; each file's suffix tells its kind."""

from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from inheritune.config.sections import Source
from inheritune.data.coding import Coding
from inheritune.data.documents import Document, Encoded
from inheritune.data.files import PACKED_SUFFIXES, File, files
from inheritune.data.kind import FileKind, SourceKind
from inheritune.data.kinds.arrow import Arrow
from inheritune.data.kinds.json_array import JsonArray
from inheritune.data.kinds.json_lines import JsonLines
from inheritune.data.kinds.parquet import Parquet
from inheritune.data.kinds.running_text import RunningText
from inheritune.data.kinds.token_row import TokenRow
from inheritune.errors import DataError

FILE_KINDS: tuple[FileKind, ...] = (RunningText(), JsonLines(), JsonArray(), Parquet(), Arrow(), TokenRow())
_BY_SUFFIX = {suffix: kind for kind in FILE_KINDS for suffix in kind.suffixes}
_PACKED = ", ".join(suffix for suffix, kind in _BY_SUFFIX.items() if kind.packed)
_WHOLE = ", ".join(suffix for suffix, kind in _BY_SUFFIX.items() if not kind.packed)
READ = f"{_PACKED} (plain or {', '.join(PACKED_SUFFIXES)}), {_WHOLE}"


class PlainFiles(SourceKind):
    """Files of text, of rows or of tokens."""

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source is of this kind: always, so that it reports what is missing of a source of no other kind."""
        return True

    def documents(self, field: str) -> Iterator[Document]:
        """The documents of one file after the other."""
        return chain.from_iterable(_BY_SUFFIX[file.kind].documents(file, field) for file in self.files)

    def encoded(self, coding: Coding) -> Iterator[Encoded] | None:
        """The documents as ids if all files hold tokens; else None."""
        if not all(_BY_SUFFIX[file.kind].of_tokens for file in self.files):
            return None
        return chain.from_iterable(_BY_SUFFIX[file.kind].encoded(file, coding) for file in self.files)

    def contents(self) -> list[tuple[str, Path]]:
        """The files, by their names."""
        return [(file.name, file.path) for file in self.files]

    @cached_property
    def files(self) -> list[File]:
        """The files, in order; DataError where one is of no kind that is read."""
        for key in ("name", "split", "revision"):
            if value := getattr(self.source, key):
                raise DataError(f"{self.source.source!r} is no dataset and has no {key} {value!r}: leave `{key}` out")
        return [known(file) for file in files(self.source.source, READ)]


def known(file: File) -> File:
    """Return the file; raises DataError if it is of no kind that is read."""
    kind = _BY_SUFFIX.get(file.kind)
    if kind is None or (file.is_packed and not kind.packed):
        raise DataError(f"{str(file.path)!r} is of no kind that is read: give {READ}, or leave it out by a glob")
    return file
