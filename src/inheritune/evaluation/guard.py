"""Two models on the guard set, paired by item: what each can still do, and what was lost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.decoder.stack import evaluating
from inheritune.evaluation.guard_items import Item
from inheritune.evaluation.tasks import flips
from inheritune.evidence.gap import gap
from inheritune.models.begin import begin_of
from inheritune.progress import Tally, silent

TOLERANCE = 0.05  # of the items: a loss of less is no loss
ALL = "all"


@dataclass(frozen=True)
class GuardRow:
    """A task: shares of its items that each model has right beside `by_chance`, and the difference with its interval.

    `lost` items the reference alone has right, `won` the model alone; `chance` is that of so uneven a split (McNemar's exact test).
    """

    task: str
    items: int
    by_chance: float
    model: float
    reference: float
    mean: float
    low: float
    high: float
    lost: int
    won: int
    chance: float


@dataclass(frozen=True)
class Guard:
    """The guard's rows, that of all items last; and whether the model is as able, what it lost, or that it cannot be told."""

    rows: list[GuardRow]
    verdict: Literal["able", "lost", "cannot tell"]
    lost: list[str]


def answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, items: Sequence[Item], count: Tally = silent
) -> np.ndarray:
    """Whether the right word is the likeliest of an item's choices, (items,), by their first tokens; no number where these are the same."""
    begin, right = begin_of(tokenizer), np.full(len(items), np.nan)
    for number, item in enumerate(items):
        firsts = [tokenizer(choice, add_special_tokens=False)["input_ids"][0] for choice in item.choices]
        if len(set(firsts)) == len(firsts):
            ids = begin.before(np.asarray(tokenizer(item.text, add_special_tokens=False)["input_ids"], dtype=np.int64))
            right[number] = int(np.argmax(_next(model, ids)[firsts])) == 0
        count(number + 1, len(items))
    return right


def _next(model: PreTrainedModel, ids: np.ndarray) -> np.ndarray:
    """The logits of the next token."""
    with evaluating(model):
        ids_1T = torch.from_numpy(ids[None]).to(model.device)
        return model(input_ids=ids_1T, use_cache=False).logits[0, -1].float().cpu().numpy()


def guard(items: Sequence[Item], model: np.ndarray, reference: np.ndarray, confidence: float) -> Guard:
    """What two models' answers to the same items say. Items that either tokenizer cannot tell apart are left out.

    A task is lost where its whole interval lies below 0, at a confidence that all tasks share (Bonferroni), and its mean below the tolerance.
    """
    there = np.isfinite(model) & np.isfinite(reference)
    tasks = list(dict.fromkeys(item.task for item in items))
    shared = 1 - (1 - confidence) / len(tasks)
    kept = {task: there & np.asarray([item.task == task for item in items]) for task in tasks}
    chances = np.asarray([item.chance for item in items])
    rows = [_row(task, own, chances, model, reference, shared) for task, own in kept.items() if own.sum() > 1]
    rows.append(_row(ALL, there, chances, model, reference, confidence))
    lost = [row.task for row in rows if row.high < 0 and row.mean < -TOLERANCE]
    if lost:
        return Guard(rows, "lost", lost)
    return Guard(rows, "able" if rows[-1].low > -TOLERANCE else "cannot tell", [])


def _row(
    task: str, own: np.ndarray, chances: np.ndarray, model: np.ndarray, reference: np.ndarray, confidence: float
) -> GuardRow:
    ours, theirs = model[own].tolist(), reference[own].tolist()
    found = gap(ours, theirs, confidence=confidence)
    lost, won, chance = flips(ours, theirs)
    return GuardRow(
        task, int(own.sum()), float(chances[own].mean()), float(np.mean(ours)), float(np.mean(theirs)),
        found.mean, found.low, found.high, lost, won, chance,
    )  # fmt: skip
