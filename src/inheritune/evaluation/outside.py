"""Compare a target with its reference on further texts: per text, and by token position up to the reference's full context."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from inheritune.config.sections import Match
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.errors import DataError
from inheritune.evaluation.by_position import bands
from inheritune.evaluation.token_losses import token_losses
from inheritune.evidence.gap import clusters, gap
from inheritune.models.begin import Begin
from inheritune.records.gap import GapResult
from inheritune.records.outside import OutsidePlace, OutsideText
from inheritune.records.stages import OutsideLosses

_FIRST_BAND = 64  # positions; the others double


@dataclass(frozen=True)
class Openings:
    """The starts of documents as rows of ids, and the number of the book or file that each comes from."""

    rows: list[np.ndarray]
    sources: np.ndarray


def openings(tokens: Tokens, name: str, context: int, most: int, begin: Begin | None = None) -> Openings:
    """The starts of an outside text's documents behind `begin`, each up to `context` positions, `most` tokens to predict in all.

    Raises DataError where fewer than two documents have tokens to predict.
    """
    found = starts(tokens, range(len(tokens.starts)), context, most, begin or Begin())
    if len(found.rows) < 2:
        raise DataError(
            f"data.outside has {len(found.rows)} document(s) of {name!r} within data.outside_tokens, and an interval needs 2:"
            " give more documents or more tokens"
        )
    return found


def starts(tokens: Tokens, order: Iterable[int], context: int, most: int, begin: Begin) -> Openings:
    """Documents' starts behind `begin` in the given order, each up to `context` positions, until `most` tokens are to be predicted."""
    found, numbers = list[np.ndarray](), list[int]()
    for index in order:
        document = np.asarray(tokens.document(index), dtype=np.int64)
        if len(document) < 2:
            continue
        window = begin.opening(document)[: min(context, most + begin.unasked) + 1]
        found.append(window)
        numbers.append(index)
        most -= len(window) - 1 - begin.unasked
        if most < 1:
            break
    return Openings(found, np.asarray(numbers if tokens.books is None else tokens.books[numbers]))


def compare_outside(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    texts: dict[str, Openings],
    match: Match,
    precision: str = "fp32",
    unasked: int = 0,
) -> OutsideLosses:
    """Each text's losses, gap and gap by position, with the cost of measuring them.

    `unasked`: how many tokens after a row's first one the loss leaves out (`Begin.unasked`).
    """
    began, found, flops = time.perf_counter(), [], 0.0
    for name, text in texts.items():
        ours, theirs = (token_losses(model, text.rows, precision, unasked) for model in (target, reference))
        length = max(map(len, ours))
        predicted = sum(map(len, ours))
        flops += predicted * sum(forward_flops_per_token(model, length) for model in (target, reference))
        reached = gaps_by_position(ours, theirs, text.sources, match)
        whole = _Sides(ours, theirs, text.sources, match).between(0, length - 1)
        found.append(OutsideText(name=name, documents=len(text.rows), by_position=reached, **dict(whole)))
    tokens = sum(2 * text.tokens for text in found)
    return OutsideLosses(texts=found, tokens=tokens, flops=flops, seconds=time.perf_counter() - began)


def gaps_by_position(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], sources: np.ndarray, match: Match
) -> list[OutsidePlace]:
    """Losses and gap in bands of positions, as far as at least two documents reach."""
    sides, length = _Sides(ours, theirs, sources, match), max(map(len, ours))
    return [sides.between(first, last) for first, last in bands(length, _FIRST_BAND) if sides.reach(first) > 1]


@dataclass(frozen=True)
class _Sides:
    """Losses of a target and of its reference by document and position."""

    ours: Sequence[np.ndarray]
    theirs: Sequence[np.ndarray]
    sources: np.ndarray
    match: Match

    def reach(self, first: int) -> int:
        """How many documents reach a position."""
        return sum(len(row) > first for row in self.ours)

    def between(self, first: int, last: int) -> OutsidePlace:
        """Losses and gap from position `first` to `last`, over the two or more documents that reach these."""
        reached = [
            (a[first : last + 1], b[first : last + 1])
            for a, b in zip(self.ours, self.theirs, strict=True)
            if len(a) > first
        ]
        weights = [len(a) for a, _ in reached]
        target, reference = ([float(row.mean()) for row in side] for side in zip(*reached, strict=True))
        owners = clusters(self.sources[[len(row) > first for row in self.ours]])
        match = self.match
        found = gap(target, reference, weights, owners, margin=match.margin, confidence=match.confidence)
        return OutsidePlace(
            first=first, last=last, tokens=sum(weights),
            reference_loss=float(np.average(reference, weights=weights)),
            target_loss=float(np.average(target, weights=weights)), gap=GapResult.of(found),
        )  # fmt: skip
