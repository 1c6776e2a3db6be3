"""The text or conversation that a row holds, or a description in words of what it holds instead."""

from collections.abc import Container, Mapping
from typing import Any

from inheritune.data.documents import Document
from inheritune.errors import DataError
from inheritune.models.chat import Message

TEXT, MESSAGES = "text", "messages"
Content = str | list[Message]  # a list of objects is a conversation

_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}


def told_kind(value: Any) -> str:
    """Describe in words a value that is not text."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def field_of(names: Container[str], field: str) -> str:
    """The field to read among `names`: `field`, but `messages` if it is the default `text` and only `messages` is there."""
    return MESSAGES if field == TEXT and TEXT not in names and MESSAGES in names else field


def is_conversation(value: Any) -> bool:
    """Whether a value is a list of objects."""
    return isinstance(value, list) and all(isinstance(message, Mapping) for message in value)


def document_of(name: str, content: Content | None) -> Document | None:
    """A row's content as a document; None if it is blank."""
    if isinstance(content, str):
        return Document(name, content) if content.strip() else None
    return Document(name, "", messages=content) if content else None


def content_of(row: Any, place: str, field: str) -> Content:
    """A row's `field`, empty if it is null. Raises DataError, naming fields that do, if it holds neither text nor a conversation."""
    if not isinstance(row, Mapping):
        raise DataError(
            f"{place} is {told_kind(row)}, and so has no text field {field!r}: give an object for each document"
        )
    field = field_of(row, field)
    if isinstance(value := row.get(field), str) or is_conversation(value) or (field in row and value is None):
        return value or ""
    found = f"no text in {field!r} but {told_kind(value)}" if field in row else f"no text field {field!r}"
    texts = [key for key, value in row.items() if isinstance(value, str) or (value and is_conversation(value))]
    right = f"one of {', '.join(texts)[:200]}" if texts else "the right one"
    raise DataError(f"{place} has {found}: name {right} in data.field (--field)")
