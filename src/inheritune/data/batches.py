"""Which tokens are in batch i: a pure function of (seed, i), whatever the restarts, rounds and methods.

The row of tokens is cut into sequences without gaps, documents running on across cuts (as in the paper, no mask between
documents). Each pass over them is a fresh permutation, starting at a fresh offset. Where the row has several parts, each
place in the order of sequences draws its part by weight, and each part goes through passes of its own.
"""

from functools import lru_cache

import numpy as np

from inheritune.data.store import Part, Tokens
from inheritune.errors import DataError

_PLACES = 1 << 16


class Batches:
    """Batch i as ids of shape (sequences, sequence_length + 1): inputs are [:, :-1] and labels [:, 1:]."""

    def __init__(self, tokens: Tokens, seed: int, sequences: int, sequence_length: int):
        self.seed, self.sequences, self.length = seed, sequences, sequence_length
        parts = tokens.parts or (Part("the training text", 0, len(tokens), 1.0),)
        self._parts = [
            _Passes(tokens, part, (seed, number << 32), sequence_length) for number, part in enumerate(parts)
        ]
        self._bounds = np.cumsum([part.weight for part in parts]) / sum(part.weight for part in parts)
        self._before = [np.zeros(len(parts), dtype=np.int64)]
        self._draws = lru_cache(maxsize=2)(self._draw)

    @property
    def per_epoch(self) -> int:
        """Sequences in a pass over the first part."""
        return self._parts[0].count

    def __getitem__(self, index: int) -> np.ndarray:
        first = index * self.sequences
        return np.stack([self._sequence(place) for place in range(first, first + self.sequences)])

    def _sequence(self, place: int) -> np.ndarray:
        if len(self._parts) == 1:
            return self._parts[0][place]
        block, inside = divmod(place, _PLACES)
        draws, ranks = self._draws(block)
        part = int(draws[inside])
        return self._parts[part][int(self._drawn_before(block)[part] + ranks[inside])]

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

    def __init__(self, tokens: Tokens, part: Part, key: tuple[int, int], length: int):
        self.ids, self.key, self.length = tokens.ids[part.first : part.last], key, length
        self.count = (len(self.ids) - 1) // length - 1
        if self.count < 1:
            raise DataError(
                f"{part.name} has {len(self.ids)} tokens, less than two sequences of {length}:"
                " give more text or a smaller data.sequence_length"
            )
        self._pass = lru_cache(maxsize=2)(self._draw)

    def __getitem__(self, place: int) -> np.ndarray:
        number, row = divmod(place, self.count)
        offset, order = self._pass(number)
        start = offset + int(order[row]) * self.length
        return np.asarray(self.ids[start : start + self.length + 1], dtype=np.int64)

    def _draw(self, number: int) -> tuple[int, np.ndarray]:
        random = np.random.Generator(np.random.Philox(key=[self.key[0], self.key[1] + number]))
        return int(random.integers(self.length)), random.permutation(self.count)
