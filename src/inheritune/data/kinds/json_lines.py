"""JSON lines: one row per line."""

import json
from collections.abc import Iterator
from typing import Any

from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.rows import content_of, document_of
from inheritune.data.unpacking import lines
from inheritune.errors import DataError


class JsonLines(FileKind):
    """A file with one JSON object per line. Blank lines and texts, and null, are left out."""

    suffixes = (".jsonl", ".ndjson")
    packed = True

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The text or the conversation of each line."""
        for number, line in enumerate(lines(file), 1):
            place = f"line {number} of {str(file.path)!r}"
            content = content_of(_row(line, place, field), place, field) if line.strip() else None
            if document := document_of(f"{file.name}#{number}", content):
                yield document


def _row(line: bytes, place: str, field: str) -> Any:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        # An array or an object that goes on over the next lines.
        over_lines = line.lstrip()[:1] in (b"[", b"{") and line.rstrip()[-1:] in (b"[", b"{", b",")
        remedy = "where a row stands on several lines, name the file .json" if over_lines else "mend or remove it"
        raise DataError(f"{place} is not JSON: {remedy}") from None
    if isinstance(row, list):
        raise DataError(
            f"{place} is a list, and so has no text field {field!r}: give an object a line, or name the file .json"
        )
    return row
