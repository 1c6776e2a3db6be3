"""The controls of a verdict: the reference itself trained on, and random initialisation, for the run's tokens."""

import copy
from pathlib import Path

from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.disk.folders import whole_folder
from inheritune.progress import Progress
from inheritune.records.gap import GapResult
from inheritune.records.result import Control
from inheritune.records.rows import METRICS
from inheritune.records.stages import Position
from inheritune.runs.bench import Bench
from inheritune.runs.rounds import RoundFolder, newest_checkpoint
from inheritune.runtime import processes
from inheritune.surgery.in_memory import fresh
from inheritune.training import checkpoint
from inheritune.training.metrics import Metrics

NAMES = ("reference", "random")


def run_control(
    name: str, bench: Bench, folder: Path, progress: Progress, *, blocks: list[int], tokens: int
) -> Control:
    """Train a control for `tokens` in one round of the recipe's own schedule, and compare it with the reference."""
    place = folder / "controls" / name

    def begin() -> None:
        if not place.exists():
            with whole_folder(place) as beside:
                checkpoint.save(beside / "checkpoints", _start(name, bench, blocks), {}, Position())

    processes.on_main(begin)
    model = _start(name, bench, blocks)
    checkpoint.load(newest_checkpoint(place), model)
    training = bench.recipe.training.model_copy(update={"tokens": tokens})
    metrics, depth = Metrics(place / METRICS), anatomy(model).depth
    progress.stage(f"Control: {name}, {depth} blocks, {tokens:,} tokens")
    found = RoundFolder(
        bench, progress, place, metrics, number=1, depth=depth, training=training, before=Position()
    ).train(model)
    return Control(
        name=name, depth=depth, tokens=found.tokens, flops=found.flops, seconds=found.seconds, val_loss=found.val_loss,
        gap=GapResult.of(found.gap),
    )  # fmt: skip


def _start(name: str, bench: Bench, blocks: list[int]) -> PreTrainedModel:
    return fresh(bench.model, len(blocks), bench.recipe.seed) if name == "random" else copy.deepcopy(bench.model)
