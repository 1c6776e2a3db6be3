"""A round in its folder: where a target starts, how its training is told, how it is compared. Targets and controls alike."""

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from inheritune.bench import Bench
from inheritune.blocks.flops import forward_flops_per_token
from inheritune.config import Training
from inheritune.diagnosis.watch import watch
from inheritune.folder import once, timed
from inheritune.progress import Progress, clock
from inheritune.training import checkpoint
from inheritune.training.checkpoint import Position
from inheritune.training.loop import Round as Loop
from inheritune.training.loop import train
from inheritune.training.metrics import Metrics, Row
from inheritune.training.schedule import steps_of


class Round:
    """One round of training of one model, numbered from 1 in its metrics; `before` is what earlier rounds had done."""

    def __init__(
        self, bench: Bench, progress: Progress, folder: Path, metrics: Metrics, *,
        number: int, depth: int, training: Training, before: Position,
    ):  # fmt: skip
        self.bench, self.progress, self.folder, self.metrics = bench, progress, folder, metrics
        self.number, self.depth, self.training, self.before = number, depth, training, before
        self._gap = ""
        self._look: Callable[[Position], None] = lambda position: None

    @property
    def checkpoints(self) -> Path:
        """Where the round keeps its checkpoints; the first is where it starts."""
        return self.folder / "checkpoints"

    def train(self, model: PreTrainedModel) -> dict[str, Any]:
        """Train `model` to the end of the round and compare it; from `round.json` where that was done before."""
        if not (self.folder / "round.json").exists():
            self._look = self._watching(model)
            loop = Loop(
                self.training,
                self.bench.batches,
                self.before.step,
                self.checkpoints,
                self._observe,
                self._evaluate,
                self._resume,
            )
            position = train(model, loop)
            return once(self.folder / "round.json", lambda: self._finish(model, position))
        return once(self.folder / "round.json", dict)

    def _finish(self, model: PreTrainedModel, position: Position) -> dict[str, Any]:
        step = self.before.step + position.step
        self.metrics.keep(
            lambda row: not (row["kind"] == "validation" and row["round"] == self.number and row["step"] == step)
        )
        measured = self._evaluate(model, position)
        np.save(self.folder / "losses.npy", measured.losses)
        return {
            **asdict(position),
            "depth": self.depth,
            "val_loss": measured.val_loss,
            "gap": asdict(measured.gap),
        }

    def _row(self, kind: str, position: Position) -> Row:
        return {
            "kind": kind, "round": self.number, "depth": self.depth, "step": self.before.step + position.step,
            "tokens": self.before.tokens + position.tokens, "flops": self.before.flops + position.flops,
        }  # fmt: skip

    def _observe(self, row: Row) -> None:
        position = Position(row["step"], row["tokens"], row["flops"])
        self.metrics.add({**row, **self._row("step", position)})
        steps = steps_of(self.training)
        left = (steps - row["step"]) * self.training.batch_tokens / max(1, row["tokens_per_second"])
        self.progress.now(
            f"{self.depth} blocks, step {row['step']:,} of {steps:,}: loss {row['loss']:.3f}"
            f" (reference {self.bench.reference_loss:.3f}), {self._gap}{row['tokens_per_second']:,} tokens/s, {clock(left)} left"
        )
        self._look(position)

    def _watching(self, model: PreTrainedModel) -> Callable[[Position], None]:
        """Measures the attention at the start of the round and every `diagnosis.watch_every` steps, at its cost in the ledger."""
        wanted = self.bench.recipe.diagnosis
        if not wanted.watch_every:
            return lambda position: None
        tokens_NT = self.bench.sequences(wanted.sequences, wanted.length)
        glance = watch(model, tokens_NT, every=wanted.watch_every, threshold=wanted.threshold)
        flops = float(tokens_NT.numel() * forward_flops_per_token(model, wanted.length))

        def look(position: Position) -> None:
            seen, seconds = timed(lambda: glance(position.step))
            if seen is not None:
                cost = {"tokens": tokens_NT.numel(), "flops": flops, "seconds": seconds}
                self.metrics.add({**asdict(seen), **self._row("watch", position), "cost": cost})

        return look

    def _evaluate(self, model: PreTrainedModel, position: Position) -> Any:
        measured = self.bench.compare(model)
        self.metrics.add(
            {
                **self._row("validation", position),
                "val_loss": measured.val_loss,
                "reference_loss": self.bench.reference_loss,
                "gap": measured.gap.mean,
                "low": measured.gap.low,
                "high": measured.gap.high,
                "cost": {"tokens": measured.tokens, "flops": measured.flops, "seconds": measured.seconds},
            }  # fmt: skip
        )
        self._gap = f"last gap {measured.gap.mean:+.3f}, "
        self.progress.note(
            f"{self.depth} blocks, step {position.step:,}: validation loss {measured.val_loss:.4f}, gap {measured.gap}"
        )
        return measured

    def _resume(self, position: Position) -> None:
        step, begun = self.before.step + position.step, position.step > 0
        ends = {"step": step, "validation": step, "watch": step if begun else step - 1}
        self.metrics.keep(
            lambda row: row["round"] < self.number or row.get("step", 0) <= ends.get(row["kind"], math.inf)
        )
        if not begun:
            self._look(position)


def latest(folder: Path) -> Path:
    """The newest checkpoint of a round's folder, which must have one."""
    place = checkpoint.latest(folder / "checkpoints")
    assert place is not None, f"no whole checkpoint in {folder}"
    return place


def prepare_folder(folder: Path) -> Path:
    """An empty folder beside `folder`, to be renamed to it once the round's start is whole."""
    beside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def blocks_name(number: int, blocks: Sequence[int]) -> str:
    """The name of a round's folder."""
    return f"{number:02}-{len(blocks)}-blocks"
