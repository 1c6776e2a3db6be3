"""Documents of text files: sections of running text, and rows of JSONL."""

import json
from collections.abc import Iterator

from inheritune.data.documents import Document, told_kind
from inheritune.data.files import File, lines
from inheritune.errors import DataError

# A section ends at the first blank line after so many bytes, and after LONGEST_SECTION at the next line's end.
SECTION, LONGEST_SECTION = 4_000, 100_000


def sections(file: File) -> Iterator[Document]:
    """Paragraphs packed into sections, so that one long file has many documents to split and pair by."""
    number = 0
    for offset, content in _pieces(file):
        if text := _decoded(file, offset, content):
            yield Document(f"{file.name}#{number}", text)
            number += 1


def _pieces(file: File) -> Iterator[tuple[int, bytes]]:
    held: list[bytes] = []
    size = offset = 0
    for line in lines(file):
        held.append(line)
        size += len(line)
        if size >= LONGEST_SECTION or (size >= SECTION and not line.strip()):
            yield offset, b"".join(held)
            held, size, offset = [], 0, offset + size
    yield offset, b"".join(held)


def _decoded(file: File, offset: int, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(file.path)!r} is not UTF-8 text (byte {offset + error.start}): convert it first"
        ) from None
    if "\0" in text:
        raise DataError(f"{str(file.path)!r} holds NUL characters and so is no text: check what it is")
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").strip("\n")
    return text if text.strip() else ""


def rows(file: File, field: str) -> Iterator[Document]:
    """A document for each JSON object of a JSONL file: its text `field`. Blank lines and texts, and null, are left out."""
    for number, line in enumerate(lines(file), 1):
        if line.strip() and (text := _text_of(line, f"line {number} of {str(file.path)!r}", field)).strip():
            yield Document(f"{file.name}#{number}", text)


def _text_of(line: bytes, place: str, field: str) -> str:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise DataError(f"{place} is not JSON: mend or remove it") from None
    if not isinstance(row, dict):
        raise DataError(f"{place} is {told_kind(row)}, and so has no text field {field!r}: give an object a line")
    if isinstance(value := row.get(field), str) or (field in row and value is None):
        return value or ""
    found = f"no text in {field!r} but {told_kind(value)}" if field in row else f"no text field {field!r}"
    texts = [key for key, value in row.items() if isinstance(value, str)]
    right = f"one of {', '.join(texts)[:200]}" if texts else "the right one"
    raise DataError(f"{place} has {found}: name {right} in data.field (--field)")
