"""Losses per document on one fixed set of validation documents: what every comparison rests on."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.config.sections import Data
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.errors import DataError
from inheritune.runtime.device import autocast, device

# B sequences, T positions. Padding stands at the right, where causal attention never lets it be seen.
_LOGITS_AT_ONCE = 1 << 24
_IGNORED = -100


@dataclass(frozen=True)
class Validation:
    """Windows of the validation documents (ids and labels of shape (windows, T)) and the document of each.

    `sources` has the book or file that each document is a section of, as an integer; without it each is its own.
    """

    ids: np.ndarray
    labels: np.ndarray
    owner: np.ndarray
    sources: np.ndarray | None = None

    @property
    def tokens(self) -> int:
        """Tokens predicted."""
        return int((self.labels != _IGNORED).sum())

    @property
    def weights(self) -> np.ndarray:
        """Tokens predicted in each document."""
        return np.bincount(self.owner, weights=(self.labels != _IGNORED).sum(axis=1))

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each document in an interval: its source, or itself where all come from one."""
        documents = np.arange(len(self.weights))
        return documents if self.sources is None or len(np.unique(self.sources)) < 2 else self.sources

    def flops(self, model: PreTrainedModel) -> float:
        """FLOPs of one evaluation."""
        return float(self.ids.size) * forward_flops_per_token(model, self.ids.shape[1])


def validation(tokens: Tokens, data: Data) -> Validation:
    """The documents that a recipe compares on, from their starts, cut into windows; DataError if fewer than two."""
    length = data.sequence_length
    windows: list[np.ndarray] = []
    owner: list[int] = []
    documents = 0
    for index in range(len(tokens.starts)):
        document = tokens.document(index)[: data.valid_tokens_per_document]
        if len(document) < 2:
            continue
        pieces = [document[start : start + length + 1] for start in range(0, len(document) - 1, length)]
        windows += pieces
        owner += [documents] * len(pieces)
        documents += 1
        if documents == data.valid_documents:
            break
    if documents < 2:
        raise DataError(f"validation has {documents} document(s) of at least 2 tokens, and an interval needs 2 or more")
    ids, labels = _pad(windows, length)
    return Validation(ids, labels, np.asarray(owner))


def _pad(windows: list[np.ndarray], length: int) -> tuple[np.ndarray, np.ndarray]:
    longest = min(length, max(len(window) for window in windows) - 1)
    ids = np.zeros((len(windows), longest), dtype=np.int64)
    labels = np.full((len(windows), longest), _IGNORED, dtype=np.int64)
    for row, window in enumerate(windows):
        ids[row, : len(window) - 1], labels[row, : len(window) - 1] = window[:-1], window[1:]
    return ids, labels


@torch.no_grad()
def document_losses(model: PreTrainedModel, documents: Validation, precision: str = "fp32") -> np.ndarray:
    """Mean loss of each document in nats per token, shape (documents,), in float64."""
    training = model.training
    model.eval()
    size = max(1, _LOGITS_AT_ONCE // (documents.ids.shape[1] * model.config.get_text_config().vocab_size))
    sums = [
        _window_sums(model, documents.ids[first : first + size], documents.labels[first : first + size], precision)
        for first in range(0, len(documents.ids), size)
    ]
    model.train(training)
    totals = np.bincount(documents.owner, weights=np.concatenate(sums))
    return totals / documents.weights


def mean_loss(losses: np.ndarray, documents: Validation) -> float:
    """Documents' losses as one number: nats per token."""
    return float(np.average(losses, weights=documents.weights))


def _window_sums(model: PreTrainedModel, ids_BT: np.ndarray, labels_BT: np.ndarray, precision: str) -> np.ndarray:
    labels = torch.from_numpy(labels_BT).to(device())
    with autocast(precision):
        logits: Tensor = model(input_ids=torch.from_numpy(ids_BT).to(device()), use_cache=False).logits
    losses = nn.functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=_IGNORED, reduction="none"
    )
    return losses.view(labels.shape).double().sum(dim=1).cpu().numpy()
