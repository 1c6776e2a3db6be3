"""The controls of a verdict: the reference itself trained on at its own rate, and random initialisation, for the run's tokens."""

import copy
from pathlib import Path

import torch
from transformers import PreTrainedModel

from inheritune.config.sections import Objective, Training
from inheritune.decoder.anatomy import anatomy
from inheritune.progress import Progress
from inheritune.records.entry import NOTHING_SPENT, Spent
from inheritune.records.gap import GapResult
from inheritune.records.result import RANDOM, Control
from inheritune.records.rows import METRICS, ValidationRow
from inheritune.records.stages import LOSSES, Position, RoundEnd, read_losses
from inheritune.runs.bench import Bench
from inheritune.runs.own_rate import own_rate
from inheritune.runs.rounds import RoundFolder, newest_checkpoint
from inheritune.runtime import processes
from inheritune.runtime.narrow import widen
from inheritune.surgery.in_memory import fresh
from inheritune.training import checkpoint
from inheritune.training.metrics import Metrics

_REFERENCE, TAUGHT = "reference", "reference-taught"


def names(objective: Objective) -> list[str]:
    """The names of a run's controls. Where the target is taught by the reference, one control is the reference taught in the same way."""
    return [_REFERENCE, *([TAUGHT] if objective.taught else []), RANDOM]


class Controls:
    """The controls of one run, whose target has `depth` blocks and was trained on `tokens` in all its rounds."""

    def __init__(self, bench: Bench, folder: Path, progress: Progress, depth: int, tokens: int):
        self.bench, self.folder, self.progress, self.depth = bench, folder / "controls", progress, depth
        self.training = bench.recipe.training.model_copy(update={"tokens": tokens})
        quiet = bench.recipe.diagnosis.model_copy(update={"watch_every": 0})
        self._unwatched = bench.under(bench.recipe.model_copy(update={"diagnosis": quiet}))

    def run(self, name: str, losses: Path) -> Control:
        """Train the control `name`, and compare it with the reference and with the target, whose document losses are in the file `losses`."""
        found, rate = self.train(name)
        target, own = (read_losses(each) for each in (losses, self.folder / name / LOSSES))
        return Control(
            name=name, depth=found.depth, tokens=found.tokens, flops=found.flops, seconds=found.seconds, val_loss=found.val_loss,
            gap=GapResult.of(found.gap), learning_rate=rate, target=GapResult.of(self.bench.gap_on([self.bench.documents], target, own)),
        )  # fmt: skip

    def train(self, name: str) -> tuple[RoundEnd, float]:
        """Train the control `name` in one round of the recipe's own schedule. Returns the round's end and the peak learning rate."""
        place, training = self.folder / name, self.training
        if name != RANDOM and training.tokens:
            self.progress.stage(f"Control: {name}, its own learning rate")
            rate = own_rate(place, training, lambda trial, short: self._trial(name, trial, short)).rate
            training = training.model_copy(update={"peak_lr": rate})
        return self._train(name, place, training, self.bench), training.peak_lr

    def _trial(self, name: str, place: Path, training: Training) -> tuple[RoundEnd, Spent]:
        found = self._train(name, place, training, self._unwatched)
        return found, sum((row.cost for row in Metrics(place / METRICS).of(ValidationRow)), NOTHING_SPENT)

    def _train(self, name: str, place: Path, training: Training, bench: Bench) -> RoundEnd:
        def begin() -> None:
            if checkpoint.latest(place / "checkpoints") is None:
                checkpoint.save(place / "checkpoints", self._start(name), {}, Position())

        processes.on_main(begin)
        model = self._start(name)
        checkpoint.load(newest_checkpoint(place), model)
        metrics, depth = Metrics(place / METRICS), anatomy(model).depth
        self.progress.stage(f"Control: {name}, {depth} blocks, {training.tokens:,} tokens at {training.peak_lr:.2g}")
        objective = self.bench.recipe.objective.model_copy(update={"layers": None}) if name == TAUGHT else None
        return RoundFolder(
            bench, self.progress, place, metrics,
            number=1, depth=depth, training=training, before=Position(), objective=objective,
        ).train(model)  # fmt: skip

    def _start(self, name: str) -> PreTrainedModel:
        reference, seed = self.bench.kept_narrow(), self.bench.recipe.seed
        made = fresh(reference, self.depth, seed, torch.float32) if name == RANDOM else copy.deepcopy(reference)
        made.to(self.bench.home)  # type: ignore[arg-type]
        widen(made.parameters())
        return made
