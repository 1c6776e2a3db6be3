"""How text becomes token ids."""

from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from inheritune.models.begin import Begin


@dataclass(frozen=True)
class Coding:
    """A tokenizer without its own cutting and padding, the id that ends a document, and what opens one."""

    tokenizer: Tokenizer
    end: int
    begin: Begin

    @classmethod
    def of(cls, tokenizer: Tokenizer, end: int, begin: Begin | None = None) -> "Coding":
        """A coding of its own, whatever truncation and padding were saved with `tokenizer`."""
        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        return cls(own, end, begin or Begin())

    @property
    def vocabulary(self) -> int:
        """One more than the largest id that can come out."""
        return max(self.tokenizer.get_vocab_size(), self.end + 1)

    @property
    def dtype(self) -> np.dtype:
        """Two bytes an id where the vocabulary allows."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")

    def bare(self, ids: np.ndarray) -> np.ndarray:
        """A document without the begin that it may open with, and closed, where only the next one's begin ended it."""
        if not self.begin.ids:
            return ids
        text = self.begin.without(ids[:-1] if ids[-1] == self.end else ids)
        return np.append(text, np.asarray(self.end, ids.dtype))
