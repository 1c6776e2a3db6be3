"""Documents, the units that text is split and paired by: as text and as token ids."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from inheritune.models.chat import Message

# The longest document read, in bytes: a longer one would have to be held and tokenised as a whole.
LONGEST = 32 << 20


@dataclass(frozen=True)
class Document:
    """A text and its name, which is the same on all machines and decides the side of the train/validation split.

    A document is kept whole: it is never on both sides, and losses are paired by it. `book` names the text that it is a section of; a
    document that is no section is its own book. A conversation has `messages`, and no text until it is rendered. `asked` has the spans
    of characters that the loss covers; None: all.
    """

    name: str
    text: str
    section_of: str = ""
    messages: list[Message] | None = None
    asked: list[tuple[int, int]] | None = None

    @property
    def book(self) -> str:
        """The whole text that it belongs to."""
        return self.section_of or self.name

    def section(self, name: str, start: int, end: int) -> "Document":
        """Characters `start` to `end` as a document of the same book."""
        asked = self.asked and [
            (max(start, a) - start, min(end, b) - start) for a, b in self.asked if a < end and b > start
        ]
        return replace(self, name=name, text=self.text[start:end], section_of=self.book, asked=asked)


class Encoded(NamedTuple):
    """A document's token ids, its name and its book's; which ids the loss covers (None: all); whether it was rendered from messages."""

    name: str
    book: str
    ids: np.ndarray
    asked: np.ndarray | None = None
    rendered: bool = False
