"""What `ablations.py` is made of: the shared bench, and one cell (a cut, its start, its training) in a folder of its own."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ablation_steps import Steps, heal_all
from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Choice
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Objective, Training
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.parts import split_name
from inheritune.models.reference import load_reference
from inheritune.progress import Progress
from inheritune.records.profile import Profile
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once
from inheritune.runs.lab import FolderLab
from inheritune.runs.planning import of_steps
from inheritune.runs.rounds import Round, latest
from inheritune.runtime.device import make_repeatable
from inheritune.surgery.heal import find_gaps, heal
from inheritune.surgery.in_memory import inherit
from inheritune.training import checkpoint
from inheritune.training import objective as objectives
from inheritune.training.checkpoint import Position
from inheritune.training.metrics import Metrics
from inheritune.training.optimizer import Optimizer
from inheritune.training.schedule import steps_of

LOCAL_SHARE = 0.03  # of the tokens
Row = dict[str, Any]


@dataclass(frozen=True)
class Phase:
    """A share of a round's steps: what is minimised (the recipe's objective), and by group the factor of the rate (0: frozen).

    Groups: `near`, the blocks beside a gap of the cut; `far`, the others; `outside`, what is in no block. Not named: 1.
    """

    share: float
    objective: Objective | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """One training run: which blocks, how the cut starts (`no heal`, `heal`, `heal all`, `local`), how it is trained.

    `training` are changes of the recipe's section; `phases` share one schedule. `budget` are its training FLOPs, `choice` those of
    choosing its blocks; without them the base's.
    """

    name: str
    blocks: list[int]
    start: str = "heal"
    training: dict[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = (Phase(1.0),)
    budget: float | None = None
    choice: float | None = None


class Lab:
    """Reference, text, the base's depth and every criterion's cut of that depth; `cell` trains one and compares it."""

    def __init__(self, recipe: RunRecipe, folder: Path, progress: Progress):
        make_repeatable(recipe.seed)
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.bench = Bench(recipe, folder, load_reference(recipe.reference, recipe.revision), progress.now)
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
        self.found = sum(once(folder / name, dict)["flops"] for name in ("diagnosis.json", "untrained.json"))

    def _choice(self, name: str, profile: Profile) -> Choice:
        """What a criterion that is not the base's says."""
        wanted, length = self.recipe.choice, self.recipe.data.sequence_length
        tokens_BT = self.bench.sequences(wanted.sequences, length)
        place = self.folder / f"choice-{name}.json"
        return Choice(**once(place, lambda: asdict(CRITERIA[name](self.bench.model, tokens_BT, profile))))

    def _cuts(self) -> dict[str, list[int]]:
        """The other criteria's cuts, and the first blocks with the last; those that are the base's or another's once."""
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
        """After which place of a cut blocks are missing, and the last of them."""
        return dict(find_gaps(blocks, self.whole))

    def step_flops(self, cell: Cell, model: PreTrainedModel | None = None) -> float:
        """Training FLOPs of a step, the phases' mean, the teacher's passes and the optimizer's own with them."""
        training = self.training.model_copy(update=cell.training)
        model = model or inherit(self.bench.model, cell.blocks)
        tokens, own = training.batch_tokens, Optimizer(model, training).flops_per_step
        wanted = [(phase.share, self.objective(model, training, phase.objective)) for phase in cell.phases]
        length = self.recipe.data.sequence_length
        return own + sum(share * tokens * objective.flops_per_token(length) for share, objective in wanted)

    def cell(self, cell: Cell) -> Row:
        """Train a cell and compare it; `row.json` of its folder."""
        place = self.folder / "cells" / cell.name
        row = once(place / "row.json", lambda: self._row(cell, place))
        if "checkpoints_kept" not in cell.training:
            shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return row

    def _row(self, cell: Cell, place: Path) -> Row:
        model, start = self.begin(cell, place)
        before = Position(**start["before"])
        steps = max(1, round(((cell.budget or self.budget) - before.flops) / self.step_flops(cell, model)))
        self.progress.stage(f"{cell.name}: {len(cell.blocks)} blocks, {steps} steps")
        found = self._trained(cell, place, model, self.lasting(steps, **cell.training), before)
        spent = found["flops"] + before.flops
        choosing = self.choice.flops if cell.choice is None else cell.choice
        return {
            "name": cell.name, "depth": len(cell.blocks), "blocks": cell.blocks, "tokens": found["tokens"] + before.tokens,
            "training_flops": spent, "flops": self.found + choosing + start["flops"] + spent + self.comparing(model),
            "gap": found["gap"], "losses": self.inside(place / "losses.npy"),
        }  # fmt: skip

    def _trained(self, cell: Cell, place: Path, model: PreTrainedModel, training: Training, before: Position) -> Row:
        """The cell's round: the library's, or where it has phases the plain one."""
        bench = self.bench.under(self.recipe.model_copy(update={"training": training}))
        if len(cell.phases) > 1 or cell.phases[0].rates:
            return once(place / "round.json", lambda: self._phased(cell, bench, place, model, training, before))
        return Round(
            bench, self.progress, place, Metrics(place / "metrics.jsonl"), number=1, depth=len(cell.blocks),
            training=training, before=before, objective=cell.phases[0].objective or self.recipe.objective,
        ).train(model)  # fmt: skip

    def lasting(self, steps: int, **changes: Any) -> Training:
        """The recipe's training over so many steps, the warm-up in proportion."""
        training = of_steps(self.training.model_copy(update=changes), steps)
        warmup = self.training.warmup_tokens * training.tokens // self.training.tokens
        return training.model_copy(update={"warmup_tokens": warmup})

    def comparing(self, model: PreTrainedModel) -> float:
        """FLOPs of comparing a model with the reference once."""
        return self.bench.documents.flops(self.bench.model) + self.bench.documents.flops(model)

    def compared(self, model: PreTrainedModel, place: Path) -> Row:
        """A model's gap; its documents' losses go to `place`."""
        measured = self.bench.compare(model)
        np.save(place, measured.losses)
        return {"gap": asdict(measured.gap), "losses": self.inside(place)}

    def inside(self, path: Path) -> str:
        """A path as it is named inside the folder."""
        return str(path.relative_to(self.folder))

    def fresh(self, cell: Cell) -> tuple[PreTrainedModel, Row]:
        """A cut as it starts, the FLOPs of its repair, and what training there was before its round."""
        model, length = inherit(self.bench.model, cell.blocks, seed=self.recipe.seed), self.recipe.data.sequence_length
        tokens_BT = self.bench.sequences(max(2, self.recipe.choice.heal_tokens // length), length)
        flops, before = 0.0, Position()
        if cell.start == "heal all":
            flops = heal_all(model, self.bench.model, cell.blocks, tokens_BT)
        elif cell.start != "no heal":
            flops = float(heal(model, self.bench.model, cell.blocks, tokens_BT).flops)
        if cell.start == "local":
            before = self._local(cell, model)
        return model, {"flops": flops, "before": asdict(before)}

    def begin(self, cell: Cell, place: Path) -> tuple[PreTrainedModel, Row]:
        """The cell's model at its newest checkpoint."""
        if checkpoint.latest(place / "checkpoints") is None:
            place.mkdir(parents=True, exist_ok=True)
            model, start = self.fresh(cell)
            once(place / "start.json", lambda: start)
            checkpoint.save(place / "checkpoints", model, {}, Position())
        model = inherit(self.bench.model, cell.blocks)
        checkpoint.load(latest(place), model)
        return model, once(place / "start.json", dict)

    def _local(self, cell: Cell, model: PreTrainedModel) -> Position:
        """Train what stands around each gap to give what the reference gives behind it, and behind the block that follows."""
        gaps = self.gaps(cell.blocks)
        layers = gaps | {place + 1: cell.blocks[place + 1] for place in gaps if place + 1 < len(cell.blocks)}
        aim = Objective(cross_entropy=0.0, hidden=1.0, layers=layers)
        training = of_steps(self.training, max(1, round(LOCAL_SHARE * self.steps)))
        training = training.model_copy(update={"warmup_tokens": 0, "schedule": "linear"})
        steps = Steps(self.bench, model, training, Position(), self._groups(cell, model))
        wanted = self.objective(model, training, aim)
        return steps.take(lambda step: (wanted, {"far": 0.0, "outside": 0.0}))

    def _phased(
        self, cell: Cell, bench: Bench, place: Path, model: PreTrainedModel, training: Training, before: Position
    ) -> Row:
        """A round in phases, and its comparison."""
        wanted = [(phase, self.objective(model, training, phase.objective)) for phase in cell.phases]
        ends = np.cumsum([phase.share for phase in cell.phases]) * steps_of(training)

        def pick(step: int) -> tuple[objectives.Objective, Mapping[str, float]]:
            phase, objective = wanted[min(int(np.searchsorted(ends, step, side="right")), len(wanted) - 1)]
            return objective, phase.rates

        steps = Steps(bench, model, training, before, self._groups(cell, model), place / "checkpoints")
        return {**asdict(steps.take(pick)), **self.compared(model, place / "losses.npy")}

    def objective(self, model: PreTrainedModel, training: Training, wanted: Objective | None) -> objectives.Objective:
        """What a model's training minimises, with the reference as teacher; the recipe's objective if none is given."""
        return objectives.Objective(model, training, wanted or self.recipe.objective, self.bench.model)

    def _groups(self, cell: Cell, model: PreTrainedModel) -> dict[str, str]:
        """The group of each parameter."""
        gaps, path = self.gaps(cell.blocks), anatomy(model).path
        near, found = {place + side for place in gaps for side in (0, 1)}, {}
        for name, _ in model.named_parameters():
            place, _ = split_name(name, path)
            found[name] = "outside" if place is None else "near" if place in near else "far"
        return found
