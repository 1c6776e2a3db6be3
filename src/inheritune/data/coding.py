"""How text becomes token ids."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer
from transformers import PreTrainedTokenizerFast

from inheritune.data.documents import Document, Encoded
from inheritune.models.begin import AUTO, Begin, begin_of
from inheritune.models.chat import PLAIN, Chat, chat_of


@dataclass(frozen=True)
class Coding:
    """A tokenizer without truncation and padding, the id that ends a document, what opens one, and how conversations are rendered."""

    tokenizer: Tokenizer
    end: int
    begin: Begin
    chat: Chat = PLAIN

    @classmethod
    def of(cls, tokenizer: Tokenizer, end: int, begin: Begin | None = None, chat: Chat = PLAIN) -> "Coding":
        """A coding with a copy of `tokenizer`, without the truncation and padding that were saved with it."""
        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        return cls(own, end, begin or Begin(), chat)

    @classmethod
    def of_model(cls, tokenizer: PreTrainedTokenizerFast, begin: str = AUTO, loss_on: str = "all") -> "Coding":
        """The coding of a model's tokenizer; `begin` and `loss_on` are as in a recipe's `data`.

        Raises RecipeError for a begin that the tokenizer does not have.
        """
        opens, chat = begin_of(tokenizer, begin), chat_of(tokenizer, loss_on == "assistant")
        return cls.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id, opens, chat)

    @property
    def vocabulary(self) -> int:
        """One more than the largest id that can come out."""
        return max(self.tokenizer.get_vocab_size(), self.end + 1)

    @property
    def dtype(self) -> np.dtype:
        """Two bytes an id where the vocabulary allows."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")

    def encode(self, documents: Sequence[Document]) -> list[Encoded]:
        """Tokenise documents, each without a begin and with one end of text. Raises TypeError for what is no text."""
        marked = any(document.asked is not None for document in documents)
        encode = self.tokenizer.encode_batch if marked else self.tokenizer.encode_batch_fast  # which gives no offsets
        encodings = encode([document.text for document in documents], add_special_tokens=False)
        return [self._encoded(*pair) for pair in zip(documents, encodings, strict=True)]

    def _encoded(self, document: Document, encoding: Encoding) -> Encoded:
        ids, rendered = encoding.ids, document.messages is not None
        asked = None if document.asked is None else _overlapping(encoding.offsets, document.asked)
        if not rendered or ids[-1:] != [self.end]:
            ids.append(self.end)
            asked = None if asked is None else np.append(asked, False)
        row = np.fromiter(ids, dtype=self.dtype, count=len(ids))
        return self.bare(Encoded(document.name, document.book, row, asked, rendered))

    def bare(self, document: Encoded) -> Encoded:
        """Strip the begin that a document may open with, and close the document if only the next one's begin ended it."""
        if not self.begin.ids:
            return document
        ids, asked = document.ids, document.asked
        open_end = ids[:-1] if ids[-1] == self.end else ids
        text = self.begin.without(open_end)
        if asked is not None:
            opened, end = len(open_end) - len(text), asked[len(open_end) :]
            asked = np.concatenate([asked[opened : len(open_end)], end if len(end) else [False]])
        return document._replace(ids=np.append(text, np.asarray(self.end, ids.dtype)), asked=asked)


def _overlapping(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Whether each token has a character in one of the spans."""
    firsts, lasts = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    found = np.zeros(len(firsts), dtype=bool)
    for first, last in spans:
        found |= (firsts < last) & (lasts > first)
    return found
