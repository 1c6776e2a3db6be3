"""Two models on the guard set, paired by item: what each can still do, and what was lost."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.decoder.anatomy import positions_of
from inheritune.decoder.outputs import last_alone
from inheritune.decoder.stack import evaluating
from inheritune.evaluation.guard_items import Item
from inheritune.evidence.flips import flips
from inheritune.evidence.gap import gap
from inheritune.models.begin import Begin, begin_of
from inheritune.progress import Progress, Rates, Tally, silent
from inheritune.records.guard import Guard, GuardRow

TOLERANCE = 0.05  # of the items: losing a smaller share counts as no loss
ALL = "all"
_TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class Answers:
    """Whether the right word is the likeliest of each item's choices, (items,), NaN if that cannot be told; and the tokens read."""

    right: np.ndarray
    tokens: int


def answers(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    items: Sequence[Item],
    begin: Begin | None = None,
    count: Tally = silent,
) -> Answers:
    """A model's answers to `items` behind `begin` (default: as its tokenizer begins a text).

    Choices are told apart by their first tokens; items whose choices share one, or that are longer than the model's positions,
    cannot be asked. Items of equal length are read together, so that nothing is padded.
    """
    own, texts = begin or begin_of(tokenizer), [item.text for item in items]
    firsts = [
        [tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in item.choices] for item in items
    ]
    coded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows = [own.before(np.asarray(ids, dtype=np.int64)) for ids in coded]
    right = np.full(len(items), np.nan)
    most = positions_of(model.config) or max(map(len, rows))
    apart = [
        index
        for index, (ids, choices) in enumerate(zip(rows, firsts, strict=True))
        if len(ids) <= most and len(set(choices)) == len(choices)
    ]
    done = 0
    for batch in _equally_long(apart, rows):
        for index, logits_V in zip(batch, _next(model, np.stack([rows[index] for index in batch])), strict=True):
            right[index] = int(np.argmax(logits_V[firsts[index]])) == 0
        done += len(batch)
        count(done, len(apart))
    return Answers(right, sum(len(rows[index]) for index in apart))


def counted(items: Sequence[Item], name: str, progress: Progress) -> Tally:
    """A `Tally` that shows, as a stage, how many of the items a model has answered."""
    return partial(Rates(progress), f"{name}: {len(items):,} items of the guard set")


def _equally_long(asked: Sequence[int], rows: Sequence[np.ndarray]) -> Iterator[list[int]]:
    """Yield the indices `asked` in batches of items of one length, of at most `_TOKENS_AT_ONCE` tokens or a single item."""
    for length, alike in groupby(sorted(asked, key=lambda index: len(rows[index])), key=lambda index: len(rows[index])):
        indices, size = list(alike), max(1, _TOKENS_AT_ONCE // length)
        yield from (indices[first : first + size] for first in range(0, len(indices), size))


def _next(model: PreTrainedModel, ids_BT: np.ndarray) -> np.ndarray:
    """The logits of the next token, (B, V)."""
    with evaluating(model):
        ids = torch.from_numpy(ids_BT).to(model.device)
        return model(input_ids=ids, use_cache=False, **last_alone(model)).logits[:, -1].float().cpu().numpy()


def guard(
    items: Sequence[Item],
    model: np.ndarray,
    reference: np.ndarray,
    confidence: float,
    tolerance: float = TOLERANCE,
) -> Guard:
    """Judge two models by their answers to the same items; items whose choices either tokenizer cannot tell apart are left out.

    A task is lost if its whole interval lies below 0, at a confidence corrected for the number of tasks (Bonferroni), and its mean
    difference is below -`tolerance`. A reference that is not surely better than chance over all items has nothing to lose, so no
    model is then called as able.
    """
    there = np.isfinite(model) & np.isfinite(reference)
    tasks = list(dict.fromkeys(item.task for item in items))
    shared = 1 - (1 - confidence) / len(tasks)
    kept = {task: there & np.asarray([item.task == task for item in items]) for task in tasks}
    asked = [(task, own, shared) for task, own in kept.items()] + [(ALL, there, confidence)]
    chances = np.asarray([item.chance for item in items])
    rows = [_row(task, own, chances, model, reference, sure) for task, own, sure in asked if own.sum() > 1]
    lost = [row.task for row in rows if row.high < 0 and row.mean < -tolerance]
    knows = bool(rows) and gap(reference[there], chances[there], confidence=confidence).low > 0
    able = knows and rows[-1].low > -tolerance
    return Guard(
        rows=rows, verdict="lost" if lost else "able" if able else "cannot tell", lost=lost, tolerance=tolerance
    )


def _row(
    task: str, own: np.ndarray, chances: np.ndarray, model: np.ndarray, reference: np.ndarray, confidence: float
) -> GuardRow:
    ours, theirs = model[own].tolist(), reference[own].tolist()
    found = gap(ours, theirs, confidence=confidence)
    flipped = flips(ours, theirs, confidence)
    return GuardRow(
        task=task, items=int(own.sum()), by_chance=float(chances[own].mean()), model=float(np.mean(ours)),
        reference=float(np.mean(theirs)), mean=found.mean, low=found.low, high=found.high,
        lost=flipped.lost, won=flipped.won, chance=flipped.chance, lost_low=flipped.low, lost_high=flipped.high,
    )  # fmt: skip
