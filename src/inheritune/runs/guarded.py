"""The guard in a run: target and reference answer the guard set and are compared token by token, once, and the results are kept."""

import hashlib
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.errors import OutputError
from inheritune.evaluation.guard import answers, counted, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.token_by_token import held_out_starts, token_by_token
from inheritune.records.guard import Guard, GuardAnswers
from inheritune.records.token_by_token import TokenByToken
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed


def guarded(bench: Bench, target: GuardAnswers, reference: GuardAnswers) -> Guard:
    """Compare the answers of a run's target and its reference, with the tolerance and the confidence of the run's recipe."""
    match = bench.recipe.match
    ours, theirs = (np.asarray(one.right, dtype=float) for one in (target, reference))
    return guard(items(), ours, theirs, match.confidence, match.guard or 0.0)


def guard_answers(bench: Bench, model: PreTrainedModel, place: Path, name: str) -> GuardAnswers:
    """A model's answers to the guard set, kept at `place`. Raises OutputError if those kept are to other items."""
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


def read_by_token(bench: Bench, target: PreTrainedModel, place: Path) -> TokenByToken:
    """Compare target and reference token by token on the starts of the run's held-out documents; kept at `place`."""

    def read() -> TokenByToken:
        length, begin = bench.recipe.data.sequence_length, bench.begin
        text = held_out_starts(bench.valid_tokens, length, bench.reference.positions, begin)
        with bench.progress.waiting("Target and reference token by token on held-out documents"):
            tokenizer, match = bench.reference.tokenizer, bench.recipe.match
            return token_by_token(target, bench.model, tokenizer, text, match, begin.unasked)

    return once(TokenByToken, place, read)


def _flops(model: PreTrainedModel, tokens: int, items: int) -> float:
    """FLOPs of the forward passes, in which the head is computed once per item."""
    head = 2 * anatomy(model).head.get_parameter("weight").numel()
    return float(tokens) * (forward_flops_per_token(model, tokens // items) - head) + float(items) * head
