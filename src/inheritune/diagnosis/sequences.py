"""Check token ids that a caller hands in, and remove their padding."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import text_config
from inheritune.errors import DataError

TokenRows = Tensor | np.ndarray | Sequence[Sequence[int]]


def unpadded(
    model: PreTrainedModel, tokens: TokenRows, attention_mask: TokenRows | None, unasked: int = 0
) -> list[Tensor]:
    """Each sequence of `tokens` as a 1-D tensor of the ids that the mask keeps, on the device it is on.

    Raises DataError for text, ids outside the vocabulary, sequences longer than the model's positions, or so short that the
    loss covers no token after the first and the `unasked` ones.
    """
    if isinstance(tokens, str) or any(isinstance(row, str) for row in tokens):
        raise DataError(
            "Tokens are wanted here, and this is text: give it as text=, or ids, as tokenizer(text)['input_ids'] makes them."
        )
    rows = [torch.as_tensor(row) for row in tokens]
    if attention_mask is not None:
        kept = [torch.as_tensor(row).bool() for row in attention_mask]
        if [row.shape for row in rows] != [mask.shape for mask in kept]:
            raise DataError("The attention_mask has another shape than the tokens: give a mask of theirs.")
        rows = [row[mask] for row, mask in zip(rows, kept, strict=True)]
    if not rows:
        raise DataError("There are no tokens to diagnose on: give at least one sequence.")
    for row in rows:
        _check(model, row, unasked)
    return [row.long() for row in rows]


def _check(model: PreTrainedModel, row: Tensor, unasked: int) -> None:
    config = text_config(model.config)
    if row.ndim != 1 or row.is_floating_point():
        raise DataError(
            f"Tokens must be integer ids of shape (N, T), and a row here is {row.dtype} {tuple(row.shape)}."
        )
    if len(row) < 2 + unasked:
        raise DataError(f"A sequence has {len(row)} tokens: at least {2 + unasked} are needed.")
    if row.min() < 0 or row.max() >= config.vocab_size:
        worst = row.max().item() if row.max() >= config.vocab_size else row.min().item()
        raise DataError(f"Token id {worst} is not in the model's vocabulary of {config.vocab_size}.")
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and len(row) > longest:
        raise DataError(f"A sequence has {len(row)} tokens and the model {longest} positions: give shorter ones.")
