"""Split documents into training and validation by hashes of names alone, so that adding text leaves each document on its side."""

import hashlib
from math import ceil

# With at least this many books held out, no book is on both sides. With fewer, runs of _RUN sections of every book are held out.
ENOUGH = 10
_RUN = 4


def on_validation_side(name: str, share: float) -> bool:
    """Whether a book is held out as a whole."""
    return _place(name) < share


def section_on_validation_side(book: str, number: int, share: float) -> bool:
    """Whether a section of a book is held out: in runs that are spread evenly over the book, from an offset of its own.

    A book of one section is held out if it would be as a whole.
    """
    run, place = number // _RUN, _place(book)
    return ceil((run + 1) * share - place) > ceil(run * share - place)


def _place(name: str) -> float:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
