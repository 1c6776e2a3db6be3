"""A model's loss on a text: nats per token, perplexity, bits per byte, loss by position; and its paired gap to another model.

A document is read and predicted as in a run: in windows that open with what the tokenizer puts in front of a text, up to the end of
text. Bits per byte leave out the end of text; without a begin of text, the first token is only read, and its bytes are not counted.
So bits per byte compare models of different tokenizers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.errors import DataError
from inheritune.evaluation.by_position import Band, by_position
from inheritune.evaluation.token_losses import token_losses
from inheritune.evaluation.windows import windows
from inheritune.evidence.gap import Gap, clusters, gap
from inheritune.models.begin import Begin, begin_of

_BITS = 1 / math.log(2)
_LONGER = "read longer ones (--characters, --data)"


@dataclass(frozen=True)
class Text:
    """A document's text; `whole` if it is all of the document, so that an end of text follows; `book` is what it is a section of."""

    text: str
    whole: bool = True
    book: str = ""


@dataclass(frozen=True, kw_only=True)
class OnRows:
    """One model's losses on rows of ids: `losses` has the nats of each row's predicted tokens, which are its last ones.

    `owner` is each row's document and `sources` each document's book.
    """

    rows: list[np.ndarray]
    losses: list[np.ndarray]
    owner: np.ndarray
    sources: np.ndarray

    @property
    def asked(self) -> list[np.ndarray]:
        """The predicted ids of each row."""
        return [row[len(row) - len(own) :] for row, own in zip(self.rows, self.losses, strict=True)]

    @property
    def by_position(self) -> list[Band]:
        """Loss by a token's place in its row."""
        return by_position(self.losses)


@dataclass(frozen=True, kw_only=True)
class OnText(OnRows):
    """One model's losses on a text in windows: each document's nats and tokens, and the nats and bytes without its end of text."""

    nats: np.ndarray
    tokens: np.ndarray
    text_nats: np.ndarray
    bytes: np.ndarray

    @property
    def val_loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return float(self.text_nats.sum() / self.bytes.sum()) * _BITS


@dataclass(frozen=True)
class Against:
    """Model minus reference, paired by document: in nats per token if both have the same tokens, in bits per byte if measured.

    `margin_bits_per_byte` is the margin in nats per token, converted by the reference's tokens per byte.
    """

    nats_per_token: Gap | None
    bits_per_byte: Gap | None
    margin_bits_per_byte: float | None = None


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[Text], length: int) -> OnText:
    """The model's losses on `texts`, read in windows of `length` tokens."""
    begin = begin_of(tokenizer)
    coded = [_coded(tokenizer, begin, text) for text in texts]
    pieces = [windows(ids, begin, length) for ids, _ in coded]
    found = iter(token_losses(model, [row for rows in pieces for row in rows], unasked=begin.unasked))
    losses = [[next(found) for _ in rows] for rows in pieces]
    if not any(len(row) for rows in losses for row in rows):
        raise DataError(f"the {len(texts)} documents have no token after their first, to be predicted: {_LONGER}")
    nats = np.asarray([sum(row.sum() for row in rows) for rows in losses], float)
    ends = np.asarray([rows[-1][-1] if text.whole and rows else 0.0 for text, rows in zip(texts, losses, strict=True)])
    tokens = np.asarray([sum(map(len, rows)) for rows in losses], float)
    sizes = np.asarray([size for _, size in coded], float)
    names = [text.book or str(number) for number, text in enumerate(texts)]
    return OnText(
        nats=nats, tokens=tokens, text_nats=nats - ends, bytes=sizes, sources=np.unique(names, return_inverse=True)[1],
        rows=[row for rows in pieces for row in rows], losses=[row for rows in losses for row in rows],
        owner=np.repeat(np.arange(len(pieces)), list(map(len, pieces))),
    )  # fmt: skip


def against(model: OnText, reference: OnText, margin: float, confidence: float) -> Against:
    """The gaps in nats per token and in bits per byte, with documents as units and their books as clusters.

    `margin` is in nats per token; for bits per byte it is converted by the reference's tokens per byte.
    """
    share = float(reference.tokens.sum() / reference.bytes.sum()) * _BITS
    there = (model.bytes > 0) & (reference.bytes > 0)
    if there.sum() < 2:
        raise DataError(
            f"an interval needs 2 documents in which both models predict text, and there is {there.sum()}: {_LONGER}"
        )
    ours, theirs = ((one.text_nats[there] / one.bytes[there] * _BITS) for one in (model, reference))
    owners = clusters(model.sources[there])
    bits = gap(ours, theirs, model.bytes[there], owners, margin=margin * share, confidence=confidence)
    if not np.array_equal(model.tokens, reference.tokens):
        return Against(None, bits, margin * share)
    asked = model.tokens > 0
    ours, theirs = (one.nats[asked] / one.tokens[asked] for one in (model, reference))
    owners = clusters(model.sources[asked])
    return Against(
        gap(ours, theirs, model.tokens[asked], owners, margin=margin, confidence=confidence), bits, margin * share
    )


def _coded(tokenizer: PreTrainedTokenizerFast, begin: Begin, text: Text) -> tuple[np.ndarray, int]:
    """A document's ids, and how many bytes of it are predicted."""
    found = tokenizer(text.text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids = np.asarray(found["input_ids"] + [tokenizer.eos_token_id] * text.whole, dtype=np.int64)
    read = len(begin) * begin.stands_before(ids) if begin.ids else 1
    before = found["offset_mapping"][:read]
    return ids, len(text.text[before[-1][1] if before else 0 :].encode())
