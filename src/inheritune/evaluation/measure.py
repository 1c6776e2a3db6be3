"""A model on a text: nats per token, perplexity, bits per byte, loss by position; and paired against another model.

Every byte of a document is predicted: its tokens follow the tokenizer's begin (or end) of text, in windows that each
start with the last token of the window before. So bits per byte compare models of different tokenizers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.evaluation.by_position import Place, by_position, token_losses
from inheritune.evidence.gap import Gap, gap

_BITS = 1 / math.log(2)


@dataclass(frozen=True)
class OnText:
    """One model on a text: each document's nats, tokens and bytes, and the loss by position."""

    nats: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    by_position: list[Place]

    @property
    def val_loss(self) -> float:
        """Nats per token."""
        return float(self.nats.sum() / self.tokens.sum())

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return float(self.nats.sum() / self.bytes.sum()) * _BITS


@dataclass(frozen=True)
class Against:
    """Model minus reference on the same documents, paired; nats per token only where their tokens are the same."""

    nats_per_token: Gap | None
    bits_per_byte: Gap


def measure(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int) -> OnText:
    """The model's losses on `texts`, read in windows of `length` tokens."""
    windows, owner = _windows(tokenizer, texts, length)
    losses = token_losses(model, windows)
    nats = np.bincount(owner, weights=[row.sum() for row in losses])
    tokens = np.bincount(owner, weights=[len(row) for row in losses])
    sizes = np.asarray([len(text.encode()) for text in texts], float)
    return OnText(nats, tokens, sizes, by_position(losses))


def against(model: OnText, reference: OnText, margin: float, confidence: float) -> Against:
    """Both gaps, with documents as the units. The margin is in nats per token; in bits it is that of a reference's token."""
    share = float(reference.tokens.sum() / reference.bytes.sum()) * _BITS
    bits = gap(
        model.nats / model.bytes * _BITS, reference.nats / reference.bytes * _BITS,
        tokens=model.bytes, margin=margin * share, confidence=confidence,
    )  # fmt: skip
    if not np.array_equal(model.tokens, reference.tokens):
        return Against(None, bits)
    nats = gap(
        model.nats / model.tokens, reference.nats / reference.tokens,
        tokens=model.tokens, margin=margin, confidence=confidence,
    )  # fmt: skip
    return Against(nats, bits)


def _windows(
    tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], length: int
) -> tuple[list[np.ndarray], list[int]]:
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    windows: list[np.ndarray] = []
    owner: list[int] = []
    for document, text in enumerate(texts):
        ids = np.asarray([begin, *tokenizer.encode(text, add_special_tokens=False)])
        pieces = [ids[start : start + length + 1] for start in range(0, len(ids) - 1, length)]
        windows += pieces
        owner += [document] * len(pieces)
    return windows, owner
