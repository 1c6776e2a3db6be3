"""The guard set in a run: its target and its reference are asked once each, and their answers are kept."""

import hashlib
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.errors import OutputError
from inheritune.evaluation.guard import answers, counted, guard
from inheritune.evaluation.guard_items import items
from inheritune.records.guard import Guard, GuardAnswers
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed


def guarded(bench: Bench, target: GuardAnswers, reference: GuardAnswers) -> Guard:
    """What the answers of a run's target and of its reference say, by the tolerance and the confidence of its recipe."""
    match = bench.recipe.match
    ours, theirs = (np.asarray(one.right, dtype=float) for one in (target, reference))
    return guard(items(), ours, theirs, match.confidence, match.guard or 0.0)


def guard_answers(bench: Bench, model: PreTrainedModel, place: Path, name: str) -> GuardAnswers:
    """The answers of a model, kept at `place`. Raises OutputError where those kept are to other items."""
    asked = items()
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()

    def ask() -> GuardAnswers:
        count = counted(asked, name, bench.progress)
        found, seconds = timed(lambda: answers(model, bench.reference.tokenizer, asked, bench.begin, count))
        right = [None if np.isnan(one) else bool(one) for one in found.right]
        flops = _flops(model, found.tokens, len(asked))
        return GuardAnswers(items=digest, right=right, tokens=found.tokens, flops=flops, seconds=seconds)

    kept = once(GuardAnswers, place, ask)
    if kept.items != digest:
        raise OutputError(f"{str(place)!r} has answers to other items than this version asks: {GuardAnswers.MENDED_BY}")
    return kept


def _flops(model: PreTrainedModel, tokens: int, items: int) -> float:
    """Those of the forward passes: the head is asked once an item."""
    head = 2 * anatomy(model).head.get_parameter("weight").numel()
    return float(tokens) * (forward_flops_per_token(model, tokens // items) - head) + float(items) * head
