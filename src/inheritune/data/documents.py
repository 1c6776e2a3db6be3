"""What text is made of."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# The longest document read, in bytes: a longer one would have to be held and tokenised as a whole.
LONGEST = 32 << 20


@dataclass(frozen=True)
class Document:
    """One text and a name that stays the same between machines, by which it is put on a side of the split.

    It is the unit that is kept whole: it never stands on both sides, and losses are paired by it. `book` names the text
    that it is a section of; a document that is a section of nothing is its own.
    """

    name: str
    text: str
    section_of: str = ""

    @property
    def book(self) -> str:
        """The whole text that it belongs to."""
        return self.section_of or self.name


class Encoded(NamedTuple):
    """A document's token ids, with its name and its book's."""

    name: str
    book: str
    ids: np.ndarray
