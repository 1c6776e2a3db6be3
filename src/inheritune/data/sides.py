"""On which side of the split a document stands: by hashes of names alone, so that more text leaves every document on its side."""

import hashlib
from math import ceil

# Books held out, from which on no book stands on both sides. Below, runs of so many sections of every book are held out.
ENOUGH = 10
_RUN = 4


def on_validation_side(name: str, share: float) -> bool:
    """Whether a book is held out as a whole."""
    return _place(name) < share


def section_on_validation_side(book: str, number: int, share: float) -> bool:
    """Whether a section of a book is held out: in runs that are spread evenly over it, from a place of the book's own.

    A book of one section is held out where it would be as a whole.
    """
    run, place = number // _RUN, _place(book)
    return ceil((run + 1) * share - place) > ceil(run * share - place)


def _place(name: str) -> float:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
