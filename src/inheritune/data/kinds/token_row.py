"""nanoGPT's `.bin`: token ids as they are."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from inheritune.data.coding import Coding
from inheritune.data.documents import Document, Encoded
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.unpacking import readable
from inheritune.errors import DataError

_AT_ONCE = 1 << 24
# The header of llm.c's .bin files: 256 four-byte integers, of which the first three are a magic number, a version and a count.
_MAGIC, _HEADER = 20240520, 1024


class TokenRow(FileKind):
    """A `.bin`: two bytes per id, each document closed or opened by the end of text, or opened by a begin, with or without header."""

    suffixes = (".bin",)
    of_tokens = True

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """Raise DataError: the file holds no text."""
        raise DataError(f"{str(file.path)!r} holds tokens, and text is needed here: give its text")

    def encoded(self, file: File, coding: Coding) -> Iterator[Encoded]:
        """The documents, each of which ends at an end of text or before the next one's begin."""
        with readable(file.path):
            ids = _mapped(file.path)
        number = first = 0
        for cut in chain(_cuts(ids, coding), [len(ids)]):
            if cut > first:
                name = f"{file.name}#{number}"
                yield coding.bare(Encoded(name, name, ids[first:cut]))
                number, first = number + 1, cut


def _cuts(ids: np.ndarray, coding: Coding) -> Iterator[int]:
    """Where documents part: after each end of text, before each begin."""
    for at in range(0, len(ids), _AT_ONCE):
        part = ids[at : at + _AT_ONCE]
        cuts = np.flatnonzero(part == coding.end) + 1
        if coding.begin.ids and coding.begin.ids[0] != coding.end:
            cuts = np.union1d(cuts, np.flatnonzero(part == coding.begin.ids[0]))
        yield from (cuts + at).tolist()


def _mapped(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % 2:
        raise DataError(
            f"{str(path)!r} has an odd number of bytes, so it is no row of two-byte ids as nanoGPT writes them"
        )
    header = np.fromfile(path, dtype="<i4", count=3)
    if size < _HEADER or header[0] != _MAGIC:
        return np.memmap(path, dtype="<u2", mode="r")
    if header[1] != 1 or header[2] != (size - _HEADER) // 2 or size == _HEADER:
        raise DataError(
            f"{str(path)!r} has a header of version {header[1]} that promises {header[2]} tokens, and holds"
            f" {(size - _HEADER) // 2} of two bytes: fetch it again"
        )
    return np.memmap(path, dtype="<u2", mode="r", offset=_HEADER)
