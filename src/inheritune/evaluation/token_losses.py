"""The loss of each token of rows of ids, in nats: the one implementation that every loss on text comes from.

Shapes: N rows, T positions, V entries of the vocabulary. Padding stands at the right, where causal attention never lets it be seen.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import require_known
from inheritune.decoder.stack import evaluating
from inheritune.evaluation.logits import logits_in_pieces, rows_at_once
from inheritune.runtime import processes
from inheritune.runtime.device import autocast

IGNORED = -100  # a label that the loss leaves out
_LOGITS_AT_ONCE, _ON_GPU = 1 << 24, 1 << 28


def token_losses(
    model: PreTrainedModel, rows: Sequence[np.ndarray], precision: str = "fp32", unasked: int = 0
) -> list[np.ndarray]:
    """Loss of each token of each row in float64, without the first token and the `unasked` ones after it."""
    require_known(model, max((int(row.max(initial=0)) for row in rows), default=0))
    losses: list[np.ndarray] = [np.empty(0)] * len(rows)
    for batch in _alike(rows, _at_once(model)):
        found_NT = label_losses(model, *padded([rows[index] for index in batch], unasked), precision)
        for index, row in zip(batch, found_NT, strict=True):
            losses[index] = row[unasked : len(rows[index]) - 1]
    return losses


def padded(rows: Sequence[np.ndarray], unasked: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows as ids and labels (N, T), where T is one less than the longest row. Padding and unasked tokens have an ignored label."""
    longest = max(map(len, rows), default=1) - 1
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    labels = np.full((len(rows), longest), IGNORED, dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row) - 1] = row[:-1]
        labels[place, unasked : len(row) - 1] = row[1 + unasked :]
    return ids, labels


def label_losses(
    model: PreTrainedModel, ids_NT: np.ndarray, labels_NT: np.ndarray, precision: str = "fp32"
) -> np.ndarray:
    """Loss at each label, (N, T) in float64, 0 where the label is ignored. The memory of the logits limits how many rows are read at once.

    Distributed processes each read a share of the rows; all return all losses, bit-equal to those of a single process.
    """
    size = rows_at_a_pass(model, ids_NT.shape[1])
    parts = [slice(first, first + size) for first in range(0, len(ids_NT), size)]
    own = parts[processes.own_rows(len(parts))]
    idle = -(-len(parts) // processes.count()) - len(own)  # a sharded model needs every process at each pass
    with evaluating(model):
        found = [_losses(model, ids_NT[part], labels_NT[part], precision) for part in own + idle * parts[-1:]]
    return np.concatenate([losses for shares in processes.of_all(found[: len(own)]) for losses in shares])


def rows_at_a_pass(model: PreTrainedModel, length: int) -> int:
    """How many rows of so many tokens are read at once."""
    return max(1, _at_once(model) // length)


def _at_once(model: PreTrainedModel) -> int:
    """Tokens whose logits may stand in memory together."""
    most = _ON_GPU if model.device.type == "cuda" else _LOGITS_AT_ONCE
    return max(1, most // model.config.get_text_config().vocab_size)


def _alike(rows: Sequence[np.ndarray], most: int) -> Iterator[list[int]]:
    """Batches of indices of rows of similar length, so that little is padding."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: len(rows[index])):
        if batch and (len(batch) + 1) * (len(rows[index]) - 1) > most:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _losses(model: PreTrainedModel, ids_BT: np.ndarray, labels_BT: np.ndarray, precision: str) -> np.ndarray:
    ids, labels = (torch.from_numpy(each_BT).to(model.device) for each_BT in (ids_BT, labels_BT))
    asked, rows = labels.flatten(), rows_at_once(model)
    with autocast(precision, model.device):
        pieces = zip(logits_in_pieces(model, ids, rows), asked.split(rows), strict=True)
        losses = [
            nn.functional.cross_entropy(logits.float(), some, ignore_index=IGNORED, reduction="none")
            for logits, some in pieces
        ]
    return torch.cat(losses).view(labels.shape).double().cpu().numpy()
