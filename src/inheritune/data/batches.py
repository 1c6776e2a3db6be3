"""The tokens of batch i, as a pure function of (seed, i): the same across restarts, rounds and methods.

The row of tokens is cut into sequences without gaps, documents running on across cuts (as in the paper, no mask between
documents). Each pass over them is a fresh permutation, starting at a fresh offset. If the row has several parts, each place in
the order of sequences draws its part by weight, and each part has passes of its own.

A begin of text opens each sequence, in place of the token that would only be read: a begin of one token, as nearly all are,
leaves the predicted tokens as they are. Each further token of a begin replaces one of them. If the loss covers the assistant's
turns alone, `asked` marks their tokens.
"""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from inheritune.data.store import Part, Tokens
from inheritune.errors import DataError
from inheritune.models.begin import Begin

_PLACES = 1 << 16


class Batches:
    """Batch i as ids of shape (sequences, sequence_length + 1): inputs are [:, :-1] and labels [:, 1:], which `asked` may mask."""

    def __init__(self, tokens: Tokens, seed: int, sequences: int, sequence_length: int, begin: Begin | None = None):
        self.seed, self.sequences, self.length, self.begin = seed, sequences, sequence_length, begin or Begin()
        parts = tokens.parts or (Part("the training text", 0, len(tokens), 1.0),)
        self._parts = [
            _Passes(tokens, part, (seed, number << 32), sequence_length, self.begin)
            for number, part in enumerate(parts)
        ]
        self._bounds = np.cumsum([part.weight for part in parts]) / sum(part.weight for part in parts)
        self._before = [np.zeros(len(parts), dtype=np.int64)]
        self._draws = lru_cache(maxsize=2)(self._draw)
        self._marked = tokens.asked is not None

    @property
    def per_epoch(self) -> int:
        """Sequences in a pass over the first part."""
        return self._parts[0].count

    def __getitem__(self, index: int) -> np.ndarray:
        return np.stack([part[place] for part, place in self._sequences(index)])

    def asked(self, index: int) -> np.ndarray | None:
        """Which labels of batch `index` the loss covers, of shape (sequences, sequence_length); None: all."""
        if not (self.begin.unasked or self._marked):
            return None
        return np.stack([part.asked(place) for part, place in self._sequences(index)])

    def _sequences(self, index: int) -> "Iterator[tuple[_Passes, int]]":
        """The part that each sequence of a batch comes from, and its place there."""
        for place in range(index * self.sequences, (index + 1) * self.sequences):
            if len(self._parts) == 1:
                yield self._parts[0], place
                continue
            block, inside = divmod(place, _PLACES)
            draws, ranks = self._draws(block)
            part = int(draws[inside])
            yield self._parts[part], int(self._drawn_before(block)[part] + ranks[inside])

    def _draw(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The part of each place of a block, and how many places of the block before it drew the same."""
        random = np.random.Generator(np.random.Philox(key=[self.seed, (1 << 63) + block]))
        draws = np.searchsorted(self._bounds[:-1], random.random(_PLACES), side="right")
        ranks = np.empty(_PLACES, dtype=np.int64)
        for part in range(len(self._parts)):
            drawn = draws == part
            ranks[drawn] = np.arange(drawn.sum())
        return draws, ranks

    def _drawn_before(self, block: int) -> np.ndarray:
        """How many places of all blocks before drew each part."""
        while len(self._before) <= block:
            draws, _ = self._draw(len(self._before) - 1)
            self._before.append(self._before[-1] + np.bincount(draws, minlength=len(self._parts)))
        return self._before[block]


class _Passes:
    """One part's sequences, pass after pass."""

    def __init__(self, tokens: Tokens, part: Part, key: tuple[int, int], length: int, begin: Begin):
        self.tokens, self.part, self.key, self.length, self.begin = tokens, part, key, length, begin
        self.count = (part.last - part.first - 1) // length - 1
        if self.count < 1:
            raise DataError(
                f"{part.name} has {part.last - part.first} tokens, less than two sequences of {length}:"
                " give more text or a smaller data.sequence_length"
            )
        self._pass = lru_cache(maxsize=2)(self._draw)

    def __getitem__(self, place: int) -> np.ndarray:
        found = self.begin.opening(self.tokens.read(*self._span(place)))
        return np.asarray(found[: self.length + 1], dtype=np.int64)

    def asked(self, place: int) -> np.ndarray:
        """Which labels of a sequence the loss covers, (length,)."""
        span = self._span(place)
        return self.begin.asked(self.tokens.read(*span), self.tokens.read_asked(*span))[1 : self.length + 1]

    def _span(self, place: int) -> tuple[int, int]:
        """The span of tokens, (first, last), that a sequence is read from."""
        number, row = divmod(place, self.count)
        offset, order = self._pass(number)
        start = self.part.first + offset + int(order[row]) * self.length + bool(self.begin)
        return start, start + self.length + 1

    def _draw(self, number: int) -> tuple[int, np.ndarray]:
        random = np.random.Generator(np.random.Philox(key=[self.key[0], self.key[1] + number]))
        return int(random.integers(self.length)), random.permutation(self.count)
