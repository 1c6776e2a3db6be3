"""Columns of tables as documents, checked before anything in them is followed."""

from collections.abc import Iterable, Iterator
from typing import Any

from inheritune.data.documents import Document
from inheritune.data.unpacking import Unpacked
from inheritune.errors import DataError

ROWS = 32  # held at once


def require_text(schema: Any, field: str, source: str) -> None:
    """Raise DataError where a table of this Arrow schema has no column `field`, or one that holds no text."""
    import pyarrow.types as kinds

    if field not in schema.names:
        raise missing_column(schema.names, field, source)
    kind = schema.field(field).type
    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    of_text = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    if not any(fits(kind) for fits in (*of_text, kinds.is_binary, kinds.is_large_binary)):
        raise DataError(
            f"{source!r} has no text in {field!r} but {str(kind)[:100]}: name a column of text in data.field (--field)"
        )


def missing_column(names: list[str], field: str, source: str) -> DataError:
    """That there is no such column."""
    return DataError(
        f"{source!r} has no column {field!r}: name one of {', '.join(names)[:400]} in data.field (--field)"
    )


def values(columns: Iterable[Any], unpacked: Unpacked | None = None) -> Iterator[str | None]:
    """The texts in Arrow columns, a few held at once; `unpacked` counts them. Raises ArrowInvalid for damage."""
    for column in columns:
        # Offsets in a file may lead anywhere in memory, and its text need not be UTF-8.
        column.validate(full=True)
        for value in column:
            text = value.as_py()
            text = text.decode() if isinstance(text, bytes) else text
            if unpacked:
                unpacked.add(len(text or " "))
            yield text


def numbered(name: str, texts: Iterable[str | None]) -> Iterator[Document]:
    """A document for each row that is not blank, numbered from 1."""
    for number, text in enumerate(texts, 1):
        if text and text.strip():
            yield Document(f"{name}#{number}", text)
