"""`inheritune compare`: which cells there are, which of them are this process's, and the learning rate of each method."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from inheritune.comparison.budget import phase_tokens
from inheritune.comparison.cell import Cell, Work, given, save_profile
from inheritune.comparison.gather import gather, refuse_mixed
from inheritune.comparison.status import cell_standing
from inheritune.config.loading import load_for_positions, load_recipe
from inheritune.config.recipes import CompareRecipe, RunRecipe
from inheritune.config.sections import Objective, RunMatch
from inheritune.decoder.anatomy import anatomy
from inheritune.disk.files import make_folder
from inheritune.errors import ModelError, RecipeError, TrainingError
from inheritune.methods import METHODS
from inheritune.models.quiet import loading
from inheritune.models.reference import Reference, load_reference, with_size
from inheritune.progress import Progress, Rates
from inheritune.records.cells import CellResult, ComparisonBasis, Failure, InherituneStart
from inheritune.records.comparison import Comparison
from inheritune.records.rows import METRICS
from inheritune.records.stages import REFERENCE_PROFILE
from inheritune.report.compare_figures import write_figures
from inheritune.report.compare_table import write_tables
from inheritune.runs.bench import Bench
from inheritune.runs.folder import holding, left_if_used, once, refuse_another
from inheritune.runs.going_on import noting_how
from inheritune.runs.made_of import bind
from inheritune.runs.status_words import live_view
from inheritune.runtime.device import device, make_repeatable
from inheritune.runtime.launch import Launch
from inheritune.surgery.in_memory import fresh
from inheritune.training.costs import step_flops, token_flops
from inheritune.training.kernels import settled
from inheritune.words import plural


def compare(
    recipe: str = "laptop-compare",
    out: str | None = None,
    shard: tuple[int, int] = (1, 1),
    gather_only: bool = False,
    progress: Progress | None = None,
    **overrides: Any,
) -> Comparison:
    """Train every method of a recipe (name or path) on the same batches and documents, and compare them.

    The folder `out` is continued where it stopped. `shard` (i, n): this process takes each n-th method, from the i-th on;
    `gather_only` trains nothing. Raises InputError for whatever the user has to mend, Interrupted after a signal.
    """
    checked = load_recipe(CompareRecipe, recipe, {key.replace("__", "."): value for key, value in overrides.items()})
    checked = checked.model_copy(update={"training": settled(checked.training, device())})
    if checked.methods == ["all"]:
        checked = checked.model_copy(update={"methods": list(METHODS)})
    folder, progress = Path(out or f"runs/{checked.name}"), progress or Progress(quiet=True)
    _refuse_unknown(checked, shard)
    for place in sorted(folder.glob("shards/*")):  # a cell does not record its budget, and all cells go into one table
        refuse_another(place, checked)
    if not gather_only:
        place = folder / "shards" / f"{shard[0]}-of-{shard[1]}"
        with holding(place, checked), noting_how(place, checked), closing(progress):
            _Sweep(checked, folder, place, progress).run(checked.methods[shard[0] - 1 :: shard[1]])
    found = gather(checked, folder)
    found.save(folder / "compare.json")
    write_tables(found, folder)
    write_figures(folder)
    return found


def _refuse_unknown(recipe: CompareRecipe, shard: tuple[int, int]) -> None:
    for name in recipe.methods:
        if name not in METHODS:
            raise RecipeError(f"methods holds {name!r}, which is none: choose from {', '.join(METHODS)}")
        if recipe.methods.count(name) > 1:
            raise RecipeError(f"methods holds {name!r} more than once: name each once")
    if Launch.told().count > 1:
        raise RecipeError(
            "a comparison runs in one process and cannot be launched by torchrun: split it with --shard i/n"
        )
    if not 1 <= shard[0] <= shard[1]:
        raise RecipeError(f"--shard {shard[0]}/{shard[1]} is none: the first number runs from 1 to the second")


@dataclass
class _Sweep:
    recipe: CompareRecipe
    folder: Path
    place: Path
    progress: Progress
    asked: int = 0

    def run(self, methods: list[str]) -> None:
        """Each method: its learning rates on the first seed, then the best of them on the other seeds."""
        with left_if_used(self.place):
            self.reference = self._load()
            self.depth = self.recipe.depth or round(anatomy(self.reference.model).depth * 2 / 3)
            asked = self._as_run(self.recipe.seed, self.recipe.training.peak_lr)
            self.bench = Bench(asked, self.place, self.reference, self.progress)
        refuse_mixed(self.folder)
        for caution in self.bench.unchecked:
            self.progress.note(f"Caution: {caution}")
        self.cells = len(methods) * (len(self.recipe.rates()) + self.recipe.seeds - 1)
        self.progress.stage(self._told(methods))
        self._about()
        for method in methods:
            self._method(method)

    def _told(self, methods: list[str]) -> str:
        """Say what is trained, and in what the methods are equal."""
        recipe, rates, whole = self.recipe, len(self.recipe.rates()), anatomy(self.reference.model).depth
        seeds = f", then the best on {plural(recipe.seeds - 1, 'further seed')}" if recipe.seeds > 1 else ""
        return (
            f"At most {plural(self.cells, 'cell')}: {plural(len(methods), 'method')} with {plural(rates, 'learning rate')} on the first seed{seeds};"
            f" {self.depth} of {whole} blocks, sequences of {recipe.data.sequence_length:,} tokens, equal in {recipe.budget}"
        )

    def _load(self) -> Reference:
        recipe = self.recipe
        with loading(self.progress, f"Reference: {with_size(recipe.reference)}"):
            reference = load_reference(recipe.reference, recipe.revision, recipe.trust_remote_code)
        whole, depth = anatomy(reference.model).depth, self.recipe.depth or 1
        if depth >= whole:
            raise RecipeError(f"depth is {depth} and the reference has {whole} blocks: make it less")
        self.recipe = load_for_positions(recipe, reference.positions)
        return reference

    def _about(self) -> None:
        """Write what gathering needs to know of the reference and the documents, so that it need not load a model."""
        bench, model = self.bench, self.reference.model
        trained = self.reference.trained_tokens
        per_token = token_flops(model, self.recipe.training, self.recipe.data.sequence_length)
        basis = ComparisonBasis(
            reference_loss=bench.reference_loss, losses=bench.reference_measured.losses,
            weights=bench.documents.weights.tolist(), clusters=bench.documents.clusters.tolist(),
            depth=self.depth, reference_depth=anatomy(model).depth,
            reference_tokens=trained, reference_flops=trained * per_token if trained else None,
        )  # fmt: skip
        once(ComparisonBasis, self.place / ComparisonBasis.NAME, lambda: basis)
        profile = self.place / REFERENCE_PROFILE
        if not profile.exists():
            save_profile(model, bench, profile, Rates(self.progress))

    def _method(self, method: str) -> None:
        refused = self.folder / "cells" / Failure.OF_METHOD.format(method)
        try:
            grid = [self._cell(Cell(method, self.recipe.seed, rate)) for rate in self.recipe.rates()]
        except ModelError as error:
            reason = str(error)
            self.progress.note(f"{method} is left out: {reason}")
            make_folder(refused.parent)
            Failure(method=method, reason=reason).save(refused)
            return
        done = [found for found in grid if found]
        if done:
            best = min(done, key=lambda found: found.val_loss)
            for seed in self.recipe.all_seeds()[1:]:
                self._cell(Cell(method, seed, best.peak_lr))

    def _cell(self, cell: Cell) -> CellResult | None:
        """Train a cell and return its result; None where training failed, with the reason written down."""
        self.asked += 1
        self.progress.stage(f"Cell {self.asked} of {self.cells} at most: {cell.name}")
        objective = Objective(**METHODS[cell.method].objective)
        bench = self.bench.under(self._as_run(cell.seed, cell.peak_lr, objective))
        place = self.folder / "cells" / cell.name
        with holding(place, bench.recipe):
            try:
                for caution in bind(place, bench.made_of):
                    self.progress.note(f"Caution: {caution}")
                make_repeatable(cell.seed, self.recipe.training.repeatable)
                start = given(bench, self.depth, self.place, Rates(self.progress))
                keep = self.recipe.keep_models
                self.progress.view = live_view(lambda: cell_standing(place, self.recipe), place / METRICS)
                work = Work(
                    cell, place, bench, given=start, progress=self.progress, keep_model=keep, budget=self.recipe.budget
                )
                return work.run(self._tokens)
            except TrainingError as error:
                reason = str(error)
                self.progress.note(f"{cell.name}: {reason}")
                once(Failure, place / Failure.NAME, lambda: Failure(reason=reason))
                return None

    def _as_run(self, seed: int, rate: float, objective: Objective | None = None) -> RunRecipe:
        recipe = self.recipe
        training = recipe.training.model_copy(update={"peak_lr": rate})
        return RunRecipe(
            name=recipe.name, seed=seed, data=recipe.data, training=training, processes=recipe.processes,
            reference=recipe.reference, revision=recipe.revision, match=RunMatch(**dict(recipe.match)),
            diagnosis=recipe.diagnosis, objective=objective or Objective(),
        )  # fmt: skip

    def _tokens(self, work: Work) -> list[int]:
        """Tokens of each of a method's phases under the recipe's budget, or under the method's own."""
        method, training = work.method, self.recipe.training
        budget = method.spends or self.recipe.budget
        shares = [phase.share for phase in method.phases]
        if budget == "tokens":
            return phase_tokens(shares, [1.0] * len(shares), 0, training.tokens, training.batch_tokens, None)
        # With equal tokens, `inheritune` also spends its teacher's passes; a method that may spend as much in all trains with those FLOPs too.
        taught = self.recipe.budget == "tokens" and bool(METHODS["inheritune"].objective)
        most = training.tokens * self._flops(fresh(self.reference.model, self.depth, 0), taught)
        prepared = 0.0
        if budget == "total-flops":
            most, prepared = most + self._inheritune_prepared(), work.prepared().flops
        costs = list(self._costs(work))
        return phase_tokens(shares, costs, prepared, training.tokens, training.batch_tokens, most)

    def _costs(self, work: Work) -> Iterator[float]:
        """Yield the training FLOPs per token of each phase."""
        before, own = None, replace(work.given)
        for phase in work.method.phases:
            before = phase.start(own, before)
            yield self._flops(before, bool(work.method.objective))

    def _flops(self, model: PreTrainedModel, taught: bool) -> float:
        """Training FLOPs per token, including the optimizer's and, where the reference teaches, its forward pass."""
        training, teacher = self.recipe.training, self.reference.model if taught else None
        return step_flops(model, training, self.recipe.data.sequence_length, teacher) / training.batch_tokens

    def _inheritune_prepared(self) -> float:
        """FLOPs that inheritune spends before it trains."""

        def measure() -> InherituneStart:
            own = given(self.bench, self.depth, self.place, Rates(self.progress))
            METHODS["inheritune"].phases[0].start(own, None)
            return InherituneStart(flops=own.spent.flops)

        return once(InherituneStart, self.place / InherituneStart.NAME, measure).flops
