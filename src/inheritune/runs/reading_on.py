"""Read more held-out text where a look cannot tell, in steps that were planned and that the confidences account for."""

from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.records.gap import GapResult
from inheritune.records.result import Reading
from inheritune.records.stages import FURTHER_FOLDER, PlannedLooks, ReferenceLosses
from inheritune.runs.bench import Bench, Measured


def further_reference(folder: Path, number: int) -> Path:
    """Where a run keeps the reference's losses on its further reading `number` (from 0)."""
    return folder / FURTHER_FOLDER / str(number + 1) / ReferenceLosses.NAME


def read_on(
    bench: Bench, model: PreTrainedModel, look: Measured, planned: PlannedLooks
) -> tuple[Reading, np.ndarray] | None:
    """Read more documents until the gap is clear, or to the last one. Returns the gap on all documents, and each document's loss.

    None if the look was clear already, or nothing is left to read.
    """
    sets, seen, reference = [bench.documents], [look.losses], [bench.reference_measured.losses]
    found, took, confidence = look.gap, None, planned.reading_confidence
    for number in range(planned.reads):
        if found.verdict != "cannot tell":
            break
        more = bench.further_documents(number)
        if not more.tokens:  # these have no tokens of the assistant to ask for
            continue
        sets.append(more)
        kept = bench.reference_on(more, further_reference(bench.folder, number))
        losses, spent = bench.losses_on(more, model)
        seen.append(losses)
        reference.append(kept.losses)
        took = spent if took is None else took + spent
        found = bench.gap_on(sets, np.concatenate(seen), np.concatenate(reference), confidence)
    if took is None:
        return None
    weights, all_losses = np.concatenate([one.weights for one in sets]), np.concatenate(seen)
    reading = Reading(
        **dict(took),
        documents=len(weights),
        tokens_in_all=int(weights.sum()),
        val_loss=float(np.average(all_losses, weights=weights)),
        reference_loss=float(np.average(np.concatenate(reference), weights=weights)),
        gap=GapResult.of(found),
        confidence=confidence,
    )
    return reading, all_losses
