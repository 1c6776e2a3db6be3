"""Zero-shot tasks, scored by lm-eval itself; this file only pairs two models' answers (extra `eval`)."""

import io
import logging
import os
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from inheritune.errors import InputError
from inheritune.evidence.flips import flips
from inheritune.evidence.gap import gap
from inheritune.models.begin import begin_of

_ALMOST = 1e-9
# What is read of lm-eval's results, by task: metrics by name and filter, counts, and each document's values.
Results = TypedDict(
    "Results",
    {
        "results": dict[str, dict[str, Any]],
        "higher_is_better": dict[str, dict[str, bool]],
        "n-samples": dict[str, dict[str, int]],
        "samples": dict[str, list[dict[str, Any]]],
    },
)


@dataclass(frozen=True)
class Score:
    """One metric of one task as lm-eval gives it, its standard error, and how many documents it rests on."""

    task: str
    metric: str
    value: float
    error: float | None
    documents: int
    higher_is_better: bool


@dataclass(frozen=True)
class Difference:
    """A metric's mean over the same documents, model minus reference, with its interval.

    For answers that are right or wrong it has the flips: `lost`, `won`, `chance`, and the interval of the share that was lost.
    """

    task: str
    metric: str
    mean: float
    low: float
    high: float
    lost: int | None = None
    won: int | None = None
    chance: float | None = None
    lost_low: float | None = None
    lost_high: float | None = None


@dataclass(frozen=True)
class Scored:
    """A model's scores, and each document's value of those metrics that are means over documents."""

    scores: list[Score]
    values: dict[tuple[str, str], dict[int, float]]

    def __add__(self, other: "Scored") -> "Scored":
        return Scored(self.scores + other.scores, self.values | other.values)


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tasks: Sequence[str],
    files: Path | None,
    limit: int | None,
) -> Scored:
    """Scores on tasks by lm-eval's names, or of the task files in the folder `files`.

    Raises InputError where lm-eval is missing, knows no such task or cannot get its documents.
    """
    harness = library()
    talk = io.StringIO()  # lm-eval prints to both streams, and standard output may be for JSON
    try:
        with redirect_stdout(talk), redirect_stderr(talk):
            found = _evaluate(harness, model, tokenizer, list(tasks), files, limit)
    except Exception as error:
        cause = " ".join(str(error).split())[:300]
        raise InputError(f"lm-eval cannot score {', '.join(tasks)} ({type(error).__name__}: {cause})") from error
    return Scored(_scores(found), _values(found))


def differences(model: Scored, reference: Scored, confidence: float) -> list[Difference]:
    """Model minus reference, paired by document, for each metric that is a mean over documents."""
    rows = []
    for (task, metric), own in model.values.items():
        other = reference.values.get((task, metric), {})
        shared = sorted(own.keys() & other.keys())
        if len(shared) > 1:
            ours, theirs = ([side[at] for at in shared] for side in (own, other))
            found = gap(ours, theirs, confidence=confidence)
            told = flips(ours, theirs, confidence) if {*ours, *theirs} <= {0.0, 1.0} else ()
            rows.append(Difference(task, metric, found.mean, found.low, found.high, *told))
    return rows


def _evaluate(
    harness: Any,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    tasks: list[str],
    files: Path | None,
    limit: int | None,
) -> Results:
    wrapped = harness.models.huggingface.HFLM(
        pretrained=model, tokenizer=tokenizer, batch_size=1, add_bos_token=bool(begin_of(tokenizer).ids)
    )
    return harness.simple_evaluate(model=wrapped, tasks=tasks, task_manager=_manager(files), limit=limit)


@cache
def _manager(files: Path | None) -> Any:
    """lm-eval's list of tasks, which takes it seconds to read."""
    return library().tasks.TaskManager(include_path=None if files is None else str(files))


def library() -> Any:
    """lm-eval. Raises InputError where it is missing."""
    try:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import lm_eval
        import lm_eval.models.huggingface
        import lm_eval.tasks
    except ImportError as error:
        raise InputError(
            f"tasks are scored by lm-eval, which is not installed ({error}): pip install 'inheritune[eval]'"
        ) from None
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    return lm_eval


def _scores(found: Results) -> list[Score]:
    rows = []
    for task, metrics in found["results"].items():
        better = found["higher_is_better"].get(task, {})
        count = found["n-samples"].get(task, {}).get("effective", 0)
        for key, value in metrics.items():
            metric, comma, _ = key.partition(",")
            if comma and not metric.endswith("_stderr"):
                error = metrics.get(key.replace(metric, f"{metric}_stderr", 1))
                known = error if isinstance(error, float) else None
                rows.append(Score(task, metric, float(value), known, count, bool(better.get(metric, True))))
    return rows


def _values(found: Results) -> dict[tuple[str, str], dict[int, float]]:
    values: dict[tuple[str, str], dict[int, float]] = {}
    for row in _scores(found):
        samples = [sample for sample in found["samples"].get(row.task, []) if _is_number(sample.get(row.metric))]
        by_document = {int(sample["doc_id"]): float(sample[row.metric]) for sample in samples}
        if by_document and abs(np.mean(list(by_document.values())) - row.value) < _ALMOST:
            values[row.task, row.metric] = by_document
    return values


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
