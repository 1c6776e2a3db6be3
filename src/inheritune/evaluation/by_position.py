"""Loss of each token, and its mean by the token's place in its window: what a model gains from what stands before."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.runtime.device import device

# B windows, T positions, V entries of the vocabulary. Padding stands at the right, where causal attention never sees it.
_LOGITS_AT_ONCE = 1 << 25


@dataclass(frozen=True)
class Place:
    """Positions `first` to `last` of a window (from 0): their mean loss in nats per token, and how many tokens it rests on."""

    first: int
    last: int
    loss: float
    tokens: int


@torch.no_grad()
def token_losses(model: PreTrainedModel, windows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Loss in nats of each token of each window but its first, which is only read. Windows are rows of ids."""
    order = sorted(range(len(windows)), key=lambda index: len(windows[index]))
    losses: list[np.ndarray] = [np.empty(0)] * len(windows)
    model.eval()
    for batch in _batches(order, windows, model.config.get_text_config().vocab_size):
        found_BT = _losses(model, [windows[index] for index in batch])
        for index, row in zip(batch, found_BT, strict=True):
            losses[index] = row[: len(windows[index]) - 1]
    return losses


def by_position(losses: Sequence[np.ndarray]) -> list[Place]:
    """Mean loss in bands of positions that double in width (0, 1, 2-3, 4-7, ...)."""
    places = []
    for first, last in bands(max(map(len, losses)), 1):
        held = np.concatenate([row[first : last + 1] for row in losses])
        places.append(Place(first, last, float(held.mean()), len(held)))
    return places


def bands(length: int, width: int) -> list[tuple[int, int]]:
    """First and last position of bands over `length` positions: the first `width` wide, each other as wide as all before it."""
    edges = [0]
    while edges[-1] < length:
        edges.append(max(width, 2 * edges[-1]))
    return [(first, min(end, length) - 1) for first, end in pairwise(edges)]


def _batches(order: Sequence[int], windows: Sequence[np.ndarray], vocabulary: int) -> Iterator[list[int]]:
    """Windows of like length together, so that little is padding."""
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) + 1) * len(windows[index]) * vocabulary > _LOGITS_AT_ONCE:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _losses(model: PreTrainedModel, rows: Sequence[np.ndarray]) -> np.ndarray:
    longest = max(len(row) for row in rows)
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    ids_BT = torch.from_numpy(ids).to(device())
    logits_BTV: Tensor = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    flat = nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), ids_BT[:, 1:].flatten(), reduction="none")
    return flat.view(len(rows), longest - 1).double().cpu().numpy()
