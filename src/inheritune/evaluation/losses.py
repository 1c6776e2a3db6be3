"""Losses per document on one fixed set of validation documents: what every comparison rests on."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.config.sections import Data
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.disk.kept import Kept
from inheritune.errors import DataError
from inheritune.evaluation import held_out
from inheritune.evaluation.token_losses import IGNORED, label_losses, padded, rows_at_a_pass
from inheritune.evaluation.windows import asked_windows, windows
from inheritune.evidence.gap import clusters
from inheritune.models.begin import Begin
from inheritune.progress import Tally, silent
from inheritune.runtime import processes


@dataclass(frozen=True)
class ValidationSet:
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
        return int((self.labels != IGNORED).sum())

    @property
    def weights(self) -> np.ndarray:
        """Tokens predicted in each document."""
        return np.bincount(self.owner, weights=(self.labels != IGNORED).sum(axis=1))

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each document in an interval: its source, or itself where all come from one."""
        return clusters_of([self])

    def flops(self, model: PreTrainedModel) -> float:
        """FLOPs of one evaluation."""
        return float(self.ids.size) * forward_flops_per_token(model, self.ids.shape[1])


def clusters_of(sets: Sequence[ValidationSet]) -> np.ndarray:
    """The cluster of each document of several sets: its source, or itself where none is told or all come from one."""
    sources = [found.sources for found in sets if found.sources is not None]
    if len(sources) < len(sets):
        return np.arange(sum(len(found.weights) for found in sets))
    return clusters(np.concatenate(sources))


def validation(tokens: Tokens, data: Data, begin: Begin | None = None) -> ValidationSet:
    """The documents that a recipe compares on, cut into windows; DataError if fewer than two."""
    documents = in_windows(tokens, held_out.chosen(tokens, data.valid_documents), data, begin)
    if (count := len(documents.weights)) < 2:
        of = "of at least 2 tokens" if tokens.asked is None else "with a turn of the assistant"
        raise DataError(f"validation has {count} document(s) {of}, and an interval needs 2 or more")
    return documents


def in_windows(
    tokens: Tokens, chosen: np.ndarray, data: Data, begin: Begin | None = None, before: int = 0
) -> ValidationSet:
    """Cut the documents `chosen` into windows.

    `before` documents were chosen before these: the place where a long document is read follows its number among all. Documents
    with no token that the loss covers in what is read of them are left out, even if these are all.
    """
    found = (
        (index, list(_windows(tokens, index, before + number, data, begin or Begin())))
        for number, index in enumerate(chosen)
    )
    pairs = [(index, own) for index, own in found if own]
    rows, asked = ([window[side] for _, own in pairs for window in own] for side in (0, 1))
    ids, labels = padded(rows)
    asked_NT = padded(asked)[1] == 1
    owner = np.repeat(np.arange(len(pairs)), np.asarray([len(own) for _, own in pairs], dtype=np.int64))
    chosen = np.asarray([index for index, _ in pairs], dtype=np.int64)
    books = None if tokens.books is None else np.asarray(tokens.books)[chosen]
    return ValidationSet(ids, np.where(asked_NT, labels, IGNORED), owner, books)


def _windows(
    tokens: Tokens, index: int, number: int, data: Data, begin: Begin
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each window of a document with a mask of the tokens that the loss covers; windows without any are left out."""
    document, asked = tokens.document(index), tokens.asked_of(index)
    asked = np.ones(len(document), dtype=bool) if asked is None else asked
    parts = (held_out.parts(row, number, data) for row in (document, asked))
    for part, own in zip(*parts, strict=True):
        pairs = zip(
            windows(part, begin, data.sequence_length),
            asked_windows(part, own, begin, data.sequence_length),
            strict=True,
        )
        yield from (pair for pair in pairs if pair[1][1:].any())


def document_losses(
    model: PreTrainedModel,
    documents: ValidationSet,
    precision: str = "fp32",
    count: Tally = silent,
    place: Path | None = None,
) -> np.ndarray:
    """Mean loss of each document in nats per token, shape (documents,), in float64.

    `count` counts forward passes. With a `place` their results are kept in that file, so that a stop does not lose them; the
    caller removes the file when it has all.
    """
    ids, labels = documents.ids, documents.labels
    size = processes.count() * rows_at_a_pass(model, ids.shape[1])
    question = {"documents": _digest(documents), "precision": precision, "rows": size}
    kept = Kept(None, question)
    if place is not None:
        kept = processes.main_first(lambda: Kept(place, question, writes=processes.is_main()))
        processes.meet()  # all have read it before anything is added
    firsts, done = range(0, len(ids), size), len(kept.results)
    for first in firsts[done:]:
        part = slice(first, first + size)
        kept.add({"sums": label_losses(model, ids[part], labels[part], precision).sum(axis=1).tolist()})
        count(len(kept.results), len(firsts))
    sums = [loss for known in kept.results for loss in known["sums"]]
    return np.bincount(documents.owner, weights=sums) / documents.weights


def _digest(documents: ValidationSet) -> str:
    return hashlib.sha256(documents.ids.tobytes() + documents.labels.tobytes()).hexdigest()


def mean_loss(losses: np.ndarray, documents: ValidationSet) -> float:
    """Mean of the documents' losses in nats per token, each weighted by its tokens."""
    return float(np.average(losses, weights=documents.weights))
