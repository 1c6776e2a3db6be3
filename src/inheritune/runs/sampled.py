"""The target and the reference beside each other on a run's own validation documents, for the report."""

from pathlib import Path
from statistics import median

import numpy as np
from transformers import PreTrainedModel

from inheritune.decoder.costs import forward_flops_per_token
from inheritune.evaluation.continuation import pieces
from inheritune.evaluation.samples import NEW, PROMPT, SHOWN, GoneOn, go_on, spread, token_gaps
from inheritune.evaluation.token_losses import IGNORED
from inheritune.records.samples import Sample, SamplePlace, SideBySide
from inheritune.records.stages import LOSSES, read_losses
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed


def side_by_side(bench: Bench, target: PreTrainedModel, folder: Path) -> SideBySide:
    """Show both models on the documents of best, middle and worst gap, once; kept in `folder`, that of the target's round."""

    def show() -> SideBySide:
        losses, reference = read_losses(folder / LOSSES), np.asarray(bench.reference_measured.losses)
        chosen = spread(losses - reference)
        with bench.progress.waiting("Target and reference side by side on three held-out documents"):
            shown, seconds = timed(
                lambda: [_sample(bench, target, name, index, losses - reference) for name, index in chosen.items()]
            )
        speeds = [[one.speed for one in side] for side in zip(*(sides for _, sides, _ in shown), strict=True)]
        read = sum(tokens for *_, tokens in shown)
        flops = sum(forward_flops_per_token(model, SHOWN) for model in (target, bench.model)) * read
        return SideBySide(
            samples=[sample for sample, *_ in shown], reference_speed=median(speeds[0]), target_speed=median(speeds[1]),
            tokens=2 * read, flops=flops, seconds=seconds,
        )  # fmt: skip

    return once(SideBySide, folder / SideBySide.NAME, show)


def _sample(
    bench: Bench, target: PreTrainedModel, place: SamplePlace, document: int, gaps: np.ndarray
) -> tuple[Sample, tuple[GoneOn, GoneOn], int]:
    """A document's sample, how reference and target went on, and the tokens that each has read."""
    row = int(np.flatnonzero(bench.documents.owner == document)[0])
    length = int(np.flatnonzero(bench.documents.labels[row] != IGNORED)[-1]) + 1
    ids_T, labels_T = (side[row, : min(length, SHOWN)] for side in (bench.documents.ids, bench.documents.labels))
    tokenizer, prompt = bench.reference.tokenizer, max(1, min(PROMPT, len(ids_T) // 2))
    lost = token_gaps(target, bench.model, ids_T, labels_T)
    most = min(NEW, (bench.reference.positions or prompt + NEW) - prompt)
    sides = tuple(go_on(model, tokenizer, ids_T[:prompt], most) for model in (bench.model, target))
    sample = Sample(
        place=place, document=document, gap=float(gaps[document]), prompt=prompt,
        pieces=list(pieces(tokenizer, ids_T.tolist())), lost=[0.0, *np.round(lost[:-1], 4).tolist()],
        reference=sides[0].text, target=sides[1].text,
    )  # fmt: skip
    return sample, (sides[0], sides[1]), len(ids_T) + prompt + most
