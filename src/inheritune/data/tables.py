"""Columns of Arrow tables as documents, validated before they are read."""

from collections.abc import Iterable, Iterator
from typing import Any

from inheritune.data.documents import Document
from inheritune.data.rows import Content, document_of, field_of
from inheritune.data.unpacking import Unpacked
from inheritune.errors import DataError

ROWS = 32  # held at once


def column_of(schema: Any, field: str, source: str) -> str:
    """The column to read of a table of this Arrow schema; DataError if it is missing or holds neither text nor conversations."""
    import pyarrow.types as kinds

    field = field_of(schema.names, field)
    if field not in schema.names:
        raise missing_column(schema.names, field, source)
    kind = schema.field(field).type
    kind = kind.value_type if kinds.is_dictionary(kind) else kind
    of_text = (kinds.is_string, kinds.is_large_string, kinds.is_string_view)
    if (kinds.is_list(kind) or kinds.is_large_list(kind)) and kinds.is_struct(kind.value_type):
        return field
    if not any(fits(kind) for fits in (*of_text, kinds.is_binary, kinds.is_large_binary)):
        raise DataError(
            f"{source!r} has no text in {field!r} but {str(kind)[:100]}: name a column of text in data.field (--field)"
        )
    return field


def missing_column(names: list[str], field: str, source: str) -> DataError:
    """The error for a column that is not there."""
    return DataError(
        f"{source!r} has no column {field!r}: name one of {', '.join(names)[:400]} in data.field (--field)"
    )


def values(columns: Iterable[Any], unpacked: Unpacked | None = None) -> Iterator[Content | None]:
    """The texts or conversations in Arrow columns, a few held at once; `unpacked` counts their size. Raises ArrowInvalid for damage."""
    for column in columns:
        # Offsets in a file may lead anywhere in memory, and its text need not be UTF-8.
        column.validate(full=True)
        for value in column:
            content = value.as_py()
            content = content.decode() if isinstance(content, bytes) else content
            if unpacked:
                unpacked.add(len(content if isinstance(content, str) else str(content)) or 1)
            yield content


def numbered(name: str, contents: Iterable[Content | None]) -> Iterator[Document]:
    """A document for each row that is not blank, numbered from 1."""
    for number, content in enumerate(contents, 1):
        if document := document_of(f"{name}#{number}", content):
            yield document
