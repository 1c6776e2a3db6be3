"""A cell of a comparison: one method, one seed, one learning rate, in a folder of its own. Run again, it continues where it stopped."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from inheritune.comparison.budget import Budget, why_other_tokens
from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.diagnosis.diagnose import diagnose
from inheritune.disk.folders import remove, whole_folder
from inheritune.methods import METHODS, Given
from inheritune.models.export import write_model
from inheritune.progress import Progress, Rates, Tell
from inheritune.records.cells import CellResult, ChosenBlocks, PhaseStart, PhaseTokens
from inheritune.records.rows import METRICS
from inheritune.records.stages import LOSSES, PROFILE, Position, RoundEnd, read_losses, write_losses
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once
from inheritune.runs.rounds import RoundFolder, newest_checkpoint
from inheritune.training import checkpoint
from inheritune.training.metrics import Metrics


@dataclass(frozen=True)
class Cell:
    """What is trained: a method by name, a seed and a peak learning rate."""

    method: str
    seed: int
    peak_lr: float

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.method}-lr{self.peak_lr:g}-seed{self.seed}"


def given(bench: Bench, depth: int, choices: Path, tell: Tell) -> Given:
    """What methods may use to start on this bench. Choices are kept in the folder `choices` for the other cells of a sweep."""
    recipe = bench.recipe
    diagnosed = (recipe.diagnosis.sequences, recipe.diagnosis.length)
    return Given(
        bench.model, depth, recipe.seed, recipe.data.sequence_length, bench.sequences, diagnosed,
        unasked=bench.begin.unasked, tell=tell,
        keep=lambda criterion, make: once(ChosenBlocks, choices / ChosenBlocks.NAME.format(criterion), make),
    )  # fmt: skip


def save_profile(model: PreTrainedModel, bench: Bench, place: Path, tell: Tell) -> None:
    """Diagnose a model and write its profile to `place`, without losses of cuts and without contrasts."""
    tokens_BT = bench.sequences(bench.recipe.diagnosis.sequences, bench.recipe.diagnosis.length)
    profile = diagnose(model, tokens_BT, unasked=bench.begin.unasked, curve_sequences=0, untrained=False, tell=tell)
    profile.save(place)


class Work:
    """The training of one cell in `folder`. The bench has the cell's seed; `given` is what its start may use."""

    def __init__(
        self, cell: Cell, folder: Path, bench: Bench, *,
        given: Given, progress: Progress, keep_model: bool, budget: Budget,
    ):  # fmt: skip
        self.cell, self.folder, self.bench, self.progress, self.keep_model = cell, folder, bench, progress, keep_model
        self.budget = budget
        self.given = given
        self.method = METHODS[cell.method]
        self.metrics = Metrics(folder / METRICS)

    def run(self, tokens_of_phases: Callable[["Work"], list[int]]) -> CellResult:
        """Train every phase, compare, measure the ranks, and write `cell.json`; a finished cell is read from there."""
        if (self.folder / CellResult.NAME).exists():
            return CellResult.load(self.folder / CellResult.NAME)
        start = self._begin(1, None)
        tokens = once(PhaseTokens, self.folder / PhaseTokens.NAME, lambda: PhaseTokens(phases=tokens_of_phases(self)))
        wanted, read = self.bench.recipe.training.tokens, sum(tokens.phases)
        if read != wanted:
            why = why_other_tokens(self.method.spends or self.budget, own=self.method.spends is not None)
            self.progress.note(f"{read:,} tokens, where training.tokens is {wanted:,}: {why}")
        before, model = Position(), start
        for number, count in enumerate(tokens.phases, 1):
            model = model if number == 1 else self._begin(number, model)
            before = self._train(number, model, count, before)
        return self._finish(model)

    def prepared(self) -> PhaseStart:
        """What the start cost before training."""
        return PhaseStart.load(self._phase(1) / PhaseStart.NAME)

    def _phase(self, number: int) -> Path:
        return self.folder / f"phase-{number}"

    def _begin(self, number: int, before: PreTrainedModel | None) -> PreTrainedModel:
        """The model that a phase trains; its first checkpoint is written whole or not at all."""
        place, phase = self._phase(number), self.method.phases[number - 1]
        if before is not None:
            self.bench.set_aside()  # a start needs the reference in fp32, and the training before it has narrowed the weights
        model = phase.start(self.given, before)
        if not place.exists():
            with whole_folder(place) as beside:
                checkpoint.save(beside / "checkpoints", model, {}, Position())
                spent = self.given.spent
                PhaseStart(tokens=spent.tokens, flops=spent.flops).save(beside / PhaseStart.NAME)
        checkpoint.load(newest_checkpoint(place), model)
        return model

    def _train(self, number: int, model: PreTrainedModel, tokens: int, before: Position) -> Position:
        training = self._training(self.method.phases[number - 1].schedule, tokens)
        depth = anatomy(model).depth
        self.progress.stage(f"{self.cell.name}, phase {number}: {depth} blocks, {tokens:,} tokens")
        round_ = RoundFolder(
            self.bench, self.progress, self._phase(number), self.metrics,
            number=number, depth=depth, training=training, before=before,
            objective=self.bench.recipe.objective,
        )  # fmt: skip
        found = round_.train(model)
        return Position(
            before.step + found.step, before.tokens + found.tokens,
            before.flops + found.flops, before.seconds + found.seconds,
        )  # fmt: skip

    def _training(self, schedule: str | None, tokens: int) -> Training:
        training = self.bench.recipe.training
        changes: dict[str, Any] = {"tokens": tokens, "peak_lr": self.cell.peak_lr}
        changes["warmup_tokens"] = min(training.warmup_tokens, tokens // 10)
        return training.model_copy(update=changes | ({"schedule": schedule} if schedule else {}))

    def _keep(self, model: PreTrainedModel) -> None:
        """Write the final model as a folder, in the reference's own dtype."""
        reference, dtype = self.bench.reference, self.bench.written_dtype
        words = None if reference.place.is_dir() else reference.tokenizer
        with whole_folder(self.folder / "model") as beside:
            write_model(model, beside, source=reference.place, tokenizer=words, dtype=dtype)

    def _finish(self, model: PreTrainedModel) -> CellResult:
        numbers = range(1, len(self.method.phases) + 1)
        rounds = [RoundEnd.load(self._phase(number) / RoundEnd.NAME) for number in numbers]
        save_profile(model, self.bench, self.folder / PROFILE, Rates(self.progress))
        write_losses(self.folder / LOSSES, read_losses(self._phase(len(rounds)) / LOSSES))
        last, prepared = rounds[-1], self.prepared()
        found = CellResult(
            method=self.cell.method, seed=self.cell.seed, peak_lr=self.cell.peak_lr,
            depth=last.depth, parameters=parameter_count(model),
            tokens=sum(phase.tokens for phase in rounds), flops=sum(phase.flops for phase in rounds),
            prepared_tokens=prepared.tokens, prepared_flops=prepared.flops,
            seconds=sum(phase.seconds for phase in rounds), val_loss=last.val_loss, gap=last.gap,
        )  # fmt: skip
        if self.keep_model:
            self._keep(model)
        written = once(CellResult, self.folder / CellResult.NAME, lambda: found)
        for number in numbers:
            remove(self._phase(number) / "checkpoints")
        return written
