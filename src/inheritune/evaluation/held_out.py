"""Which documents of the held-out text are read, and which parts of long ones."""

import numpy as np

from inheritune.config.sections import Data
from inheritune.data.tokens import Tokens

_GOLDEN = (5**0.5 - 1) / 2
_TIMES, _READS = 4, 3  # four times the text halves an interval


def chosen(tokens: Tokens, most: int) -> np.ndarray:
    """The first `most` documents of `in_turn`, in the order of the text."""
    return np.sort(in_turn(tokens)[:most])


def in_turn(tokens: Tokens) -> np.ndarray:
    """All documents with at least 2 tokens of which the loss covers any, in an order of which any first part is usable.

    If documents are sections of books, any first part has equally many of each book, spread over it.
    """
    long_enough = np.flatnonzero(tokens.sizes >= 2)
    if tokens.asked is not None:
        long_enough = long_enough[[bool(np.any(tokens.asked_of(int(index)))) for index in long_enough]]
    if tokens.books is None:
        return long_enough
    ranks = _ranks(np.asarray(tokens.books)[long_enough])
    return long_enough[np.argsort(ranks, kind="stable")]


def further(tokens: Tokens, most: int) -> list[np.ndarray]:
    """The documents of each further reading, if the first `most` cannot tell; each reading makes four times as many in all."""
    found: list[np.ndarray] = []
    seen = chosen(tokens, most)
    while len(found) < _READS and len(more := np.setdiff1d(chosen(tokens, _TIMES * len(seen)), seen)):
        found.append(more)
        seen = np.union1d(seen, more)
    return found


def parts(document: np.ndarray, number: int, data: Data) -> list[np.ndarray]:
    """What is read of a document: all of it, or parts of at most a sequence's length, at fixed places all over it;
    with `valid_read: start` its first tokens.

    The document is divided into as many equal stretches as there are parts; its `number` decides the place in each stretch.
    """
    size = data.valid_tokens_per_document
    if len(document) <= size or data.valid_read == "start":
        return [document[:size]]
    count = min(-(-size // data.sequence_length), size // 2)
    length, stretch = size // count, len(document) / count
    place = number * _GOLDEN % 1 * (stretch - length)
    return [document[start : start + length] for start in (int(part * stretch + place) for part in range(count))]


def _ranks(books: np.ndarray) -> np.ndarray:
    """Each section's rank in its book, such that the sections of the first ranks, however many, are spread over the book."""
    ranks = np.empty(len(books), dtype=np.int64)
    order = np.argsort(books, kind="stable")
    for sections in np.split(order, np.flatnonzero(np.diff(books[order])) + 1):
        bits = max(1, (len(sections) - 1).bit_length())
        mirrored = [int(f"{number:0{bits}b}"[::-1], 2) for number in range(len(sections))]
        ranks[sections[np.argsort(mirrored)]] = np.arange(len(sections))
    return ranks
