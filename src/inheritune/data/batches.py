"""Which tokens are in batch i: a pure function of (seed, i), whatever the restarts, rounds and methods.

The row of tokens is cut into sequences without gaps, documents running on across cuts (as in the paper, no mask between
documents). Each pass over them is a fresh permutation, starting at a fresh offset.
"""

from functools import lru_cache

import numpy as np

from inheritune.data.tokens import Tokens
from inheritune.errors import DataError


class Batches:
    """Batch i as ids of shape (sequences, sequence_length + 1): inputs are [:, :-1] and labels [:, 1:]."""

    def __init__(self, tokens: Tokens, seed: int, sequences: int, sequence_length: int):
        self.tokens, self.seed, self.sequences, self.length = tokens, seed, sequences, sequence_length
        self.per_epoch = (len(tokens) - 1) // sequence_length - 1
        if self.per_epoch < 1:
            raise DataError(
                f"the training text has {len(tokens)} tokens, less than two sequences of {sequence_length}:"
                " give more text or a smaller data.sequence_length"
            )
        self._epoch = lru_cache(maxsize=2)(self._draw_epoch)

    def __getitem__(self, index: int) -> np.ndarray:
        first = index * self.sequences
        return np.stack([self._sequence(place) for place in range(first, first + self.sequences)])

    def _sequence(self, place: int) -> np.ndarray:
        epoch, row = divmod(place, self.per_epoch)
        offset, order = self._epoch(epoch)
        start = offset + int(order[row]) * self.length
        return np.asarray(self.tokens.ids[start : start + self.length + 1], dtype=np.int64)

    def _draw_epoch(self, epoch: int) -> tuple[int, np.ndarray]:
        random = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
        return int(random.integers(self.length)), random.permutation(self.per_epoch)
