"""The one training loop: a round of optimizer steps on a fixed order of batches, for targets, references and controls.

It knows nothing of growth, references and stopping rules. A round that continues from its newest undamaged checkpoint gives the same
bits as one that was never stopped.
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from inheritune.config.sections import Objective as Wanted
from inheritune.config.sections import Training
from inheritune.data.batches import Batches
from inheritune.decoder.anatomy import anatomy
from inheritune.errors import Interrupted, TrainingError, WorkerError
from inheritune.progress import silent
from inheritune.records.rows import StepDone
from inheritune.records.stages import Position
from inheritune.runtime import gauge, processes, sharded, stop
from inheritune.runtime.background import Background
from inheritune.runtime.gradients import GradientSums
from inheritune.runtime.memory import keep_freed_memory
from inheritune.training import checkpoint, guards
from inheritune.training.costs import step_flops
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer
from inheritune.training.schedule import learning_rate, steps_before_fall, steps_of


@dataclass(kw_only=True)
class Loop:
    """What a round trains on, and where it reports.

    - `observe(step)` is called after each step.
    - `evaluate(model, position)` is called every `training.evaluate_every` steps, and ends the round by returning True.
    - `resume(position)` is called before the first step, so that what was written after the checkpoint there can be dropped.
    - `say(sentence)` gets what a person should know; `say_at_once`, called in a thread, that a signal was received.
    - `matrix_rate` is the FLOP/s that count as full use (MFU 1).
    - `wanted` is the objective, plain cross-entropy if None; `teacher` is the model for terms that need one.
    - An `extensible` round of a `wsd` schedule keeps the checkpoint before its rate falls, and continues from there when
      `training.tokens` has grown.
    """

    training: Training
    batches: Batches
    first_batch: int
    checkpoints: Path
    observe: Callable[[StepDone], None]
    evaluate: Callable[[PreTrainedModel, Position], object]
    resume: Callable[[Position], None]
    say: Callable[[str], None] = silent
    say_at_once: Callable[[str], None] = silent
    matrix_rate: float | None = None
    parallel: str = "ddp"
    wanted: Wanted | None = None
    teacher: PreTrainedModel | None = None
    extensible: bool = False


def train_to_end(model: PreTrainedModel, round_: Loop) -> Position:
    """Train `model` to the end of the round, from the round's newest checkpoint if there is one.

    Raises RecipeError where a batch cannot be shared among the processes, OutputError or TrainingError where disk or memory are too small, TrainingError after too many steps without
    a finite loss, Interrupted after a signal and WorkerError where another process is lost; the last checkpoint stays.
    """
    guards.require_disk(round_.checkpoints, model, round_.training.checkpoints_kept + _falls(round_))
    batch = round_.batches[round_.first_batch]
    guards.require_shares(round_.training, len(batch), round_.parallel)
    guards.require_training_memory(model, round_.training, batch.shape[1] - 1, round_.parallel)
    if round_.first_batch == 0 and processes.is_main():
        for warning in (guards.slow_bf16(round_.training, model.device), guards.not_compiled(round_.training)):
            if warning:
                round_.say(warning)
    keep_freed_memory()
    try:
        return _Training(model, round_).to_the_end()
    except (WorkerError, RuntimeError) as error:
        raise _explained(error, round_) from error


def _falls(round_: Loop) -> bool:
    """Whether the round keeps the checkpoint before its learning rate falls."""
    return round_.extensible and round_.training.schedule == "wsd"


def _explained(error: WorkerError | RuntimeError, round_: Loop) -> Exception:
    """Return the error to raise for one that stopped a step: memory, a non-deterministic kernel, a lost process, or the error itself."""
    if isinstance(error, RuntimeError):
        known = guards.out_of_memory(error, round_.training) or guards.not_repeatable(error)
        if known:
            return known
    lost = error if isinstance(error, WorkerError) else processes.lost()
    if lost is None:
        return error
    return WorkerError(lost.lost, lost.count, lost.told_here, str(checkpoint.latest(round_.checkpoints)))


class _Training:
    """A round that is going on: its model, optimizer, objective and position."""

    def __init__(self, model: PreTrainedModel, round_: Loop):
        self.model, self.round, self.training = model, round_, round_.training
        self.objective = TrainingLoss(model, self.training, round_.wanted, round_.teacher, round_.say)
        self.sharded = round_.parallel == "fsdp" and processes.count() > 1
        if self.sharded:
            sharded.shard(model, anatomy(model).blocks, half=self.training.precision == "bf16")
        self.optimizer, self.position = Optimizer(model, self.training), Position()
        self.objective.sums_once = self.sharded and guards.whole_gradients_fit(
            model, self.training, round_.batches.length
        )
        self.sums: GradientSums | None = None
        if not self.sharded:
            self.sums = GradientSums([p for p in model.parameters() if p.requires_grad], self.objective.head.alone)
            self.objective.around_last = self.sums.beside_pass
        self.writing = Background()
        length = round_.batches.length
        self.flops = step_flops(model, self.training, length, self.objective.teacher)
        self.divergence = guards.Divergence()
        self.last = steps_of(self.training)
        self.before_fall = steps_before_fall(self.training) if _falls(round_) else None
        if place := processes.found_by_main(lambda: checkpoint.latest(round_.checkpoints, round_.say, self._fits)):
            state, self.position = checkpoint.load(place, model)
            self.optimizer.load_state(state)
        if self.before_fall is not None:
            processes.on_main(lambda: checkpoint.drop_after(round_.checkpoints, self.position.step))
        self.began = self.position.step
        round_.resume(self.position)

    def _fits(self, position: Position) -> bool:
        """Whether this schedule leads to `position`: the last step's learning rate shows whether it had begun to fall."""
        if self.before_fall is None or position.rate is None:
            return True
        return position.rate == learning_rate(self.training, position.step - 1)

    def to_the_end(self) -> Position:
        """Take the remaining steps, with evaluations and checkpoints when they are due."""
        self.model.train()
        with stop.on_request(self.round.say_at_once) as asked, self.writing:
            while self.position.step < self.last and not self.position.ended:
                self._step()
                self._evaluate()
                code = int(processes.agreed(asked.code or 0))
                if self._over() or code or self._due():
                    self._save()
                self.writing.look()
                if code:
                    self._written()
                    raise Interrupted(
                        f"stopped after step {self.position.step} of the round, which is saved: this goes on from there",
                        code,
                    )
            self._written()
        return self.position

    def _step(self) -> None:
        """Take one optimizer step and report it."""
        began, index = time.perf_counter(), self.round.first_batch + self.position.step
        batch = torch.from_numpy(self.round.batches[index])
        tokens = batch[:, 1:].numel()
        torch.manual_seed(_seed(batch))
        sums = self._gradient(batch, self.round.batches.asked(index))
        clipped = sharded.whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip))
        *values, norm = torch.stack(
            [*sums.values(), clipped.double()]
        ).tolist()  # the one time that a step waits for the device
        parts = dict(zip(sums, values, strict=True))
        rate = learning_rate(self.training, self.position.step)
        if finite := math.isfinite(parts["loss"]) and math.isfinite(norm):
            self.optimizer.step(rate)
        flops, seconds = self.flops, time.perf_counter() - began
        self._move_on(Position(1, tokens, flops, seconds, rate=rate), finite)
        self._tell(self._done(parts, rate, norm, tokens, seconds), finite, index)

    def _gradient(self, batch: torch.Tensor, asked: np.ndarray | None) -> dict[str, torch.Tensor]:
        """Compute the batch's gradient and return its loss in parts, summed over the processes; `asked`: which labels count, if not all."""
        own, labels = processes.share(batch).to(self.model.device), batch[:, 1:].numel()
        if asked is None:
            parts = self.objective.backward(own, labels)
        else:
            share = processes.share(torch.from_numpy(asked)).to(self.model.device)
            parts = self.objective.backward(own, max(1, int(asked.sum())), share)
        if self.sums:
            self.sums.finish()
        sums = torch.stack(list(parts.values()))
        processes.add_others([sums])
        return dict(zip(parts, sums, strict=True))

    def _move_on(self, by: Position, finite: bool) -> None:
        self.position.step += by.step
        self.position.tokens += by.tokens
        self.position.flops += by.flops
        self.position.seconds += by.seconds
        self.position.rate = by.rate
        self.position.skipped = 0 if finite else self.position.skipped + 1

    def _tell(self, step: StepDone, finite: bool, index: int) -> None:
        if finite:
            self.round.observe(step)
            if warning := self.divergence.told(step.text_loss):
                self.round.say(warning)
            return
        self.model.zero_grad()
        seen = f"the loss is {step.parts['loss']} and the gradient's norm {step.grad_norm} in batch {index}"
        self.round.observe(replace(step, skipped=seen))
        self.round.say(f"Step {self.position.step} of the round is skipped: {seen}")
        if self.position.skipped > self.training.max_skipped:
            before = f" and in the {self.training.max_skipped} steps before" if self.training.max_skipped else ""
            raise self._lost_track(f"{seen}{before} (training.max_skipped)")

    def _lost_track(self, trouble: str) -> TrainingError:
        self.writing.wait()
        kept = checkpoint.latest(self.round.checkpoints)
        return TrainingError(
            f"{trouble}; the last good checkpoint is {str(kept) if kept else 'none'}: a lower training.peak_lr usually helps"
        )

    def _evaluate(self) -> None:
        if self.position.step % self.training.evaluate_every == 0 and self.position.step < self.last:
            if self.objective.replay:
                self.objective.replay.make_room()
            ended = self.round.evaluate(self.model, self.position) is True
            self.position.ended = bool(processes.agreed(ended))

    def _save(self) -> None:
        if self.position.skipped and not all(torch.isfinite(sharded.whole(p)).all() for p in self.model.parameters()):
            raise self._lost_track(f"the weights are no finite numbers after step {self.position.step} of the round")
        self._written()
        checkpoint.save(
            self.round.checkpoints,
            self.model,
            self.optimizer.state(),
            self.position,
            kept=self.training.checkpoints_kept,
            before_fall=self.position.step == self.before_fall,
            background=self.writing,
        )

    def _written(self) -> None:
        """Wait, in every process, until the checkpoint that is being written is in place."""
        self.writing.wait()
        processes.meet()

    def _due(self) -> bool:
        step = self.position.step
        return step % self.training.checkpoint_every == 0 or step == self.before_fall

    def _over(self) -> bool:
        return self.position.ended or self.position.step == self.last

    def _done(self, parts: dict[str, float], rate: float, norm: float, tokens: int, seconds: float) -> StepDone:
        most = self.round.matrix_rate
        used = self.flops / seconds / most / processes.count() if most else None
        return StepDone(
            step=self.position.step,
            tokens=self.position.tokens,
            flops=self.position.flops,
            parts=parts,
            lr=rate,
            grad_norm=norm,
            tokens_per_second=round(tokens / seconds),
            mfu=round(used, 4)
            if used is not None and used <= 1
            else None,  # above 1: the rate was measured on a busier machine
            memory=gauge.peak_memory(self.model.device),
            first=self.position.step == self.began + 1,
        )


def _seed(batch: torch.Tensor) -> int:
    """The seed of a step's dropout: a function of its batch and this process's rank, so that no file has to hold it."""
    digest = hashlib.blake2b(batch.numpy().tobytes(), digest_size=7, salt=str(processes.rank()).encode()).digest()
    return int.from_bytes(digest, "big")
