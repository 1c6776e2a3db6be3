"""What text is made of."""

from dataclasses import dataclass
from typing import Any

# The longest document read, in bytes: a longer one would have to be held and tokenised as a whole.
LONGEST = 32 << 20


@dataclass(frozen=True)
class Document:
    """One text and a name that stays the same between machines, by which it is put on a side of the split.

    It is the unit that is kept whole: it never stands on both sides, and losses are paired by it.
    """

    name: str
    text: str


_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object", bytes: "bytes"}


def told_kind(value: Any) -> str:
    """What stands where text belongs, in words."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")
