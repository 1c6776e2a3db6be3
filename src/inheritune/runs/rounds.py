"""A round in its folder: where it starts, how its training is reported, how it is compared; the same for targets and controls."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.config.sections import Objective, Training
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.diagnosis.watch import watch
from inheritune.errors import OutputError
from inheritune.progress import Progress, pace
from inheritune.records.entry import Spent
from inheritune.records.result import Reading
from inheritune.records.rows import DecisionRow, SkippedRow, StepDone, StepRow, ValidationRow, WatchRow, step_of
from inheritune.records.stages import FURTHER_LOSSES, LOSSES, PlannedLooks, Position, RateFall, RoundEnd, write_losses
from inheritune.runs.actions import Decay, GoOn, Seen
from inheritune.runs.algorithm import Ask
from inheritune.runs.bench import Bench, Measured
from inheritune.runs.folder import once, timed
from inheritune.runs.reading_on import read_on
from inheritune.runtime import processes
from inheritune.training import checkpoint
from inheritune.training.loop import Loop, train_to_end
from inheritune.training.metrics import Metrics
from inheritune.training.schedule import falling, steps_of


class RoundFolder:
    """One round of training of one model, in its folder.

    `number` counts rounds from 1. `before` adds up the rounds before this one: steps, tokens, FLOPs and seconds. `planned` gives
    the confidence of the round's comparisons; without it the recipe's is used. If `objective` has a term that needs a
    teacher, the reference is the teacher.
    """

    def __init__(
        self, bench: Bench, progress: Progress, folder: Path, metrics: Metrics, *,
        number: int, depth: int, training: Training, before: Position, planned: PlannedLooks | None = None, objective: Objective | None = None,
    ):  # fmt: skip
        self.bench, self.progress, self.folder, self.metrics = bench, progress, folder, metrics
        self.number, self.depth, self.training, self.before = number, depth, training, before
        self.planned, self.objective = planned, objective
        self._gap = ""
        self._ask: Ask = lambda seen: GoOn("")
        self._measured: tuple[int, Measured] | None = None
        self._look: Callable[[Position], None] = lambda position: None

    @property
    def checkpoints(self) -> Path:
        """Where the round keeps its checkpoints; the first is where it starts."""
        return self.folder / "checkpoints"

    @property
    def ended(self) -> bool:
        """Whether the round was trained and compared before."""
        return (self.folder / RoundEnd.NAME).exists()

    @property
    def schedule(self) -> Training:
        """The recipe's schedule for this round, or the decay that the policy has begun."""
        fall = self._fall()
        return self.training if fall is None else falling(self.training, fall)

    def _fall(self) -> RateFall | None:
        place = self.folder / RateFall.NAME
        return RateFall.load(place) if place.exists() else None

    def seen(self) -> tuple[Seen, ...]:
        """The round's evaluations so far, in its own steps."""
        processes.meet()
        rows = [row for row in self.metrics.of(ValidationRow) if row.round == self.number and row.gap]
        before = self.before.step
        return tuple(
            Seen(row.step - before, row.end - before, row.gap, row.training_seconds) for row in rows if row.gap
        )

    def train(self, model: PreTrainedModel, ask: Ask | None = None) -> RoundEnd:
        """Train `model` to the end of the round and compare it. A round that has ended before is read from `round.json`.

        `ask` is told of each evaluation; it may begin the decay of the learning rate or end the round.
        """
        if processes.agreed(self.ended):
            return RoundEnd.load(self.folder / RoundEnd.NAME)
        self._look, self._ask = self._watching(model), ask or self._ask
        position = self._stage(model)
        if position.ended and isinstance(action := self._ask(self.seen()), Decay):
            fall = RateFall(step=position.step, steps=action.steps)
            once(RateFall, self.folder / RateFall.NAME, lambda: fall)
            self.metrics.add(DecisionRow(round=self.number, action="decay", reason=action.reason))
            position = self._stage(model)
        measured = self._last_look(model, position)
        further = read_on(self.bench, model, measured, self.planned) if self.planned else None
        return once(RoundEnd, self.folder / RoundEnd.NAME, lambda: self._finish(measured, position, further))

    def _stage(self, model: PreTrainedModel) -> Position:
        """Train on one schedule."""
        return train_to_end(
            model,
            Loop(
                training=self.schedule,
                batches=self.bench.batches,
                first_batch=self.before.step,
                checkpoints=self.checkpoints,
                observe=self._observe,
                evaluate=self._evaluate_and_ask,
                resume=self._resume,
                say=self.progress.note,
                say_at_once=self.progress.at_once,
                matrix_rate=self.bench.matrix_rate,
                parallel=self.bench.recipe.processes.parallel,
                wanted=self.objective,
                teacher=self.bench.teacher(self.objective),
            ),
        )

    def _last_look(self, model: PreTrainedModel, position: Position) -> Measured:
        step = self.before.step + position.step
        if self._measured is None or self._measured[0] != position.step:
            self.metrics.keep(
                lambda row: not (isinstance(row, ValidationRow) and row.round == self.number and row.step == step)
            )
            self._measured = (position.step, self._evaluate(model, position))
        return self._measured[1]

    def _finish(self, measured: Measured, position: Position, further: tuple[Reading, np.ndarray] | None) -> RoundEnd:
        write_losses(self.folder / LOSSES, measured.losses)
        reading = None
        if further:
            reading, losses = further
            write_losses(self.folder / FURTHER_LOSSES, losses)
            self.progress.note(
                f"It could not be told, so {reading.documents:,} documents were read: gap {reading.gap.measured}"
            )
        return RoundEnd(
            **asdict(position), depth=self.depth, val_loss=measured.val_loss, gap=measured.gap, further=reading
        )

    def _evaluate_and_ask(self, model: PreTrainedModel, position: Position) -> bool:
        """Evaluate the model and ask the policy; returns whether the round ends here, at least on this schedule."""
        self._measured = (position.step, self._evaluate(model, position))
        action = self._ask(self.seen())
        if isinstance(action, GoOn | Decay) and action.reason:  # what ends the round is said after it
            self.progress.note(action.reason)
        return not isinstance(action, GoOn)

    def _done(self, position: Position | StepDone) -> dict[str, float]:
        """The fields that every row of a round begins with."""
        return {
            "round": self.number, "depth": self.depth, "step": self.before.step + position.step,
            "tokens": self.before.tokens + position.tokens, "flops": self.before.flops + position.flops,
        }  # fmt: skip

    def _observe(self, step: StepDone) -> None:
        self.metrics.add(step.row(self._done(step)))
        if step.skipped is not None:
            return
        steps = steps_of(self.schedule)
        left = "" if step.first else pace(step.tokens_per_second, (steps - step.step) * self.training.batch_tokens)
        self.progress.now(f"{self.depth} blocks, step {step.step:,} of {steps:,}{self._gap}{left}")
        self._look(Position(step.step, step.tokens, step.flops))

    def _watching(self, model: PreTrainedModel) -> Callable[[Position], None]:
        """Return a function that measures the attention at the round's start and every `diagnosis.watch_every` steps, at a cost in the ledger."""
        wanted = self.bench.recipe.diagnosis
        if not wanted.watch_every:
            return lambda position: None
        tokens_NT = self.bench.sequences(wanted.sequences, wanted.length)
        glance = watch(model, tokens_NT, every=wanted.watch_every, threshold=wanted.threshold)
        flops = float(tokens_NT.numel() * forward_flops_per_token(model, wanted.length))

        def look(position: Position) -> None:
            seen, seconds = timed(lambda: glance(position.step))
            if seen is not None:
                cost = Spent(tokens=tokens_NT.numel(), flops=flops, seconds=seconds)
                self.metrics.add(WatchRow(**{**asdict(seen), **self._done(position)}, cost=cost))

        return look

    def _evaluate(self, model: PreTrainedModel, position: Position) -> Measured:
        measured = self.bench.compare(model, self.planned.confidence if self.planned else None)
        self.metrics.add(
            ValidationRow(
                **self._done(position),
                val_loss=measured.val_loss,
                reference_loss=self.bench.reference_loss,
                gap=measured.gap,
                end=self.before.step + steps_of(self.schedule),
                training_seconds=position.seconds,
                cost=measured.spent,
            )
        )
        self._gap = f", last gap {measured.gap.mean:+.3f}"
        self.progress.note(
            f"{self.depth} blocks, step {position.step:,}: validation loss {measured.val_loss:.4f}, gap {measured.gap}"
        )
        return measured

    def _resume(self, position: Position) -> None:
        step, begun = self.before.step + position.step, position.step > 0
        if fall := self._fall():
            position.ended = position.ended and position.step > fall.step
        ends = {StepRow: step, SkippedRow: step, ValidationRow: step, WatchRow: step if begun else step - 1}
        self.metrics.keep(lambda row: row.round < self.number or step_of(row) <= ends.get(type(row), math.inf))
        self.metrics.require_steps(self.number, position.step)
        if begun:
            self.progress.note(f"Goes on after step {position.step:,} of {steps_of(self.schedule):,}")
        if not begun:
            self._look(position)


def newest_checkpoint(folder: Path) -> Path:
    """The newest whole checkpoint of a round's folder. Raises OutputError if there is none."""
    place = processes.found_by_main(lambda: checkpoint.latest(folder / "checkpoints"))
    if place is None:
        raise OutputError(
            f"{str(folder)!r} has no checkpoint: remove it and what came after it, and the same command begins that anew"
        )
    return place


def blocks_name(number: int, blocks: Sequence[int]) -> str:
    """The name of a round's folder."""
    return f"{number:02}-{len(blocks)}-blocks"
