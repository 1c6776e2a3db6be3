"""The pieces of `ablations.py`: the lab that all cells share, and one cell (a cut, its start, its training) in a folder of its own."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Ordering
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Objective, Training
from inheritune.decoder.stack import Stack
from inheritune.disk.files import write_text
from inheritune.models.reference import load_reference
from inheritune.progress import Progress
from inheritune.records.rows import METRICS
from inheritune.records.stages import DiagnosisCost, Position, RoundEnd, Untrained
from inheritune.report.profile import Profile
from inheritune.runs.bench import Bench
from inheritune.runs.lab import FolderLab
from inheritune.runs.rounds import RoundFolder, newest_checkpoint
from inheritune.runtime.device import make_repeatable
from inheritune.surgery.heal import find_gaps, heal
from inheritune.surgery.in_memory import inherit
from inheritune.surgery.refit import refit
from inheritune.training import checkpoint
from inheritune.training.costs import step_flops
from inheritune.training.metrics import Metrics
from inheritune.training.schedule import of_steps, steps_of

Row = dict[str, Any]


def kept(place: Path, make: Callable[[], Row]) -> Row:
    """Return the row at `place`; if there is none, make it and write it there first."""
    if not place.exists():
        write_text(place, json.dumps(make(), indent=1))
    found: Row = json.loads(place.read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Cell:
    """One training run: which blocks, how the cut starts, how it is trained.

    `start` is `no heal`, `heal` or `heal all`; without it the recipe decides. `training` changes fields of the recipe's section,
    `objective` replaces the recipe's. `budget` is the training FLOPs, `choice` the FLOPs of choosing the blocks; without them,
    the base's.
    """

    name: str
    blocks: list[int]
    start: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    objective: Objective | None = None
    budget: float | None = None
    choice: float | None = None


class Lab:
    """The reference, the text, the base's depth and every criterion's cut to that depth; `cell` trains one cell and compares it."""

    def __init__(self, recipe: RunRecipe, folder: Path, progress: Progress):
        make_repeatable(recipe.seed)
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.bench = Bench(recipe, folder, load_reference(recipe.reference, recipe.revision), progress)
        lab = FolderLab(recipe, folder, self.bench, progress)
        profile = lab.diagnose()
        self.choice = lab.choose(profile)
        self.depth = lab.plan(self.choice).start
        self.choices = {name: self._choice(name, profile) for name in CRITERIA if name != self.choice.method}
        self.whole = self.choice.depth
        self.blocks, self.lower = self.choice.blocks(self.depth), range(max(1, self.depth - 2), self.depth)
        self.training = recipe.training.model_copy(update={"evaluate_every": 1 << 40})
        self.steps = steps_of(self.training)
        self.budget = self.steps * self.step_flops(Cell("base", self.blocks))
        self.cuts = self._cuts()
        self.found = sum(kind.load(folder / kind.NAME).flops for kind in (DiagnosisCost, Untrained))

    def _choice(self, name: str, profile: Profile) -> Ordering:
        """The ordering by a criterion other than the base's, kept in a file."""
        wanted, length = self.recipe.choice, self.recipe.data.sequence_length
        tokens_BT = self.bench.sequences(wanted.sequences, length)
        place = self.folder / f"choice-{name}.json"
        return Ordering(**kept(place, lambda: asdict(CRITERIA[name](self.bench.model, tokens_BT, profile))))

    def _cuts(self) -> dict[str, list[int]]:
        """The other criteria's cuts, and the first blocks with the last one, without those equal to the base's or to an earlier one."""
        found = {name: choice.blocks(self.depth) for name, choice in self.choices.items()}
        found["tail"] = [*range(self.depth - 1), self.whole - 1]
        different: dict[str, list[int]] = {}
        for name, cut in found.items():
            same = next((other for other, seen in different.items() if seen == cut), None)
            if cut == self.blocks or same:
                self.progress.note(f"blocks-{name} is {f'blocks-{same}' if same else 'the base'}")
            else:
                different[name] = cut
        return different

    def gaps(self, blocks: Sequence[int]) -> dict[int, int]:
        """Map each place of a cut after which blocks are missing to the last of these blocks."""
        return dict(find_gaps(blocks, self.whole))

    def step_flops(self, cell: Cell) -> int:
        """Training FLOPs of a step, including the teacher's pass and the optimizer's own."""
        training = self.training.model_copy(update=cell.training)
        teacher = self.bench.model if (cell.objective or self.recipe.objective).taught else None
        return step_flops(self.bench.model, training, self.recipe.data.sequence_length, teacher, cell.blocks)

    def cell(self, cell: Cell) -> Row:
        """Train a cell and compare it with the reference; its row is kept in `row.json` of its folder."""
        place = self.folder / "cells" / cell.name
        row = kept(place / "row.json", lambda: self._row(cell, place))
        if "checkpoints_kept" not in cell.training:
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return row

    def _row(self, cell: Cell, place: Path) -> Row:
        model, start = self.begin(cell, place)
        steps = max(1, round((cell.budget or self.budget) / self.step_flops(cell)))
        self.progress.stage(f"{cell.name}: {len(cell.blocks)} blocks, {steps} steps")
        found = self._trained(cell, place, model, self.lasting(steps, **cell.training))
        choosing = self.choice.flops if cell.choice is None else cell.choice
        return {
            "name": cell.name, "depth": len(cell.blocks), "blocks": cell.blocks, "tokens": found.tokens,
            "training_flops": found.flops,
            "flops": self.found + choosing + start["flops"] + found.flops + self.comparing(model),
            "gap": asdict(found.gap), "losses": self.inside(place / "losses.npy"),
        }  # fmt: skip

    def _trained(self, cell: Cell, place: Path, model: PreTrainedModel, training: Training) -> RoundEnd:
        """Train the cell's round."""
        bench = self.bench.under(self.recipe.model_copy(update={"training": training}))
        return RoundFolder(
            bench, self.progress, place, Metrics(place / METRICS), number=1, depth=len(cell.blocks),
            training=training, before=Position(), objective=cell.objective or self.recipe.objective,
        ).train(model)  # fmt: skip

    def lasting(self, steps: int, **changes: Any) -> Training:
        """The recipe's training over `steps` steps, with the warm-up in proportion."""
        training = of_steps(self.training.model_copy(update=changes), steps)
        warmup = self.training.warmup_tokens * training.tokens // self.training.tokens
        return training.model_copy(update={"warmup_tokens": warmup})

    def comparing(self, model: PreTrainedModel) -> float:
        """FLOPs of comparing a model with the reference once."""
        return self.bench.documents.flops(self.bench.model) + self.bench.documents.flops(model)

    def compared(self, model: PreTrainedModel, place: Path) -> Row:
        """Compare a model with the reference; the losses by document are written to `place`."""
        measured = self.bench.compare(model)
        np.save(place, measured.losses)
        return {"gap": asdict(measured.gap), "losses": self.inside(place)}

    def inside(self, path: Path) -> str:
        """A path relative to the lab's folder."""
        return str(path.relative_to(self.folder))

    def fresh(self, cell: Cell) -> tuple[PreTrainedModel, Row]:
        """The cut before its training, repaired as its `start` says, and the FLOPs of the repair."""
        model, length = inherit(self.bench.model, cell.blocks, seed=self.recipe.seed), self.recipe.data.sequence_length
        tokens_BT = self.bench.sequences(max(2, self.recipe.choice.heal_tokens // length), length)
        start = cell.start or ("heal" if self.recipe.choice.heal else "no heal")
        if start == "no heal":
            return model, {"flops": 0.0}
        if start == "heal all":
            return model, {"flops": heal_all(model, self.bench.model, cell.blocks, tokens_BT)}
        healing = heal(model, self.bench.model, cell.blocks, tokens_BT, unasked=self.bench.begin.unasked)
        return model, {"flops": float(healing.flops)}

    def begin(self, cell: Cell, place: Path) -> tuple[PreTrainedModel, Row]:
        """The cell's model at its newest checkpoint, and the FLOPs of its repair; the first checkpoint is made if there is none."""
        if checkpoint.latest(place / "checkpoints") is None:
            place.mkdir(parents=True, exist_ok=True)
            model, start = self.fresh(cell)
            kept(place / "start.json", lambda: start)
            checkpoint.save(place / "checkpoints", model, {}, Position())
        model = inherit(self.bench.model, cell.blocks)
        checkpoint.load(newest_checkpoint(place), model)
        return model, kept(place / "start.json", dict)


def heal_all(model: PreTrainedModel, reference: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor) -> float:
    """Refit every block, from the bottom up, to the reference's hidden states before the next kept block; return the FLOPs."""
    parent, own, flops = Stack(reference, tokens_BT), Stack(model, tokens_BT), 0.0
    wanted_BTD, below_BTD, done = parent.hidden0, own.hidden0, 0
    for place, following in enumerate([*blocks[1:], parent.depth]):
        wanted_BTD, done = parent.run(wanted_BTD, range(done, following)), following
        flops += refit(own, place, below_BTD, wanted_BTD)
        below_BTD = own.run(below_BTD, [place])
    return flops + parent.flops + own.flops
