"""The text in a row, and what stands there instead of text, in words."""

from collections.abc import Mapping
from typing import Any

from inheritune.errors import DataError

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}


def told_kind(value: Any) -> str:
    """What stands where text belongs, in words."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def text_of(row: Any, place: str, field: str) -> str:
    """A row's text `field`, empty where it is null; DataError for what is no text, with the fields that hold some."""
    if not isinstance(row, Mapping):
        raise DataError(
            f"{place} is {told_kind(row)}, and so has no text field {field!r}: give an object for each document"
        )
    if isinstance(value := row.get(field), str) or (field in row and value is None):
        return value or ""
    found = f"no text in {field!r} but {told_kind(value)}" if field in row else f"no text field {field!r}"
    texts = [key for key, value in row.items() if isinstance(value, str)]
    right = f"one of {', '.join(texts)[:200]}" if texts else "the right one"
    raise DataError(f"{place} has {found}: name {right} in data.field (--field)")
