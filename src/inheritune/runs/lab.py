"""Carry out the algorithm's steps: each is done on the bench, written to the run folder, and not done twice."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Ordering, Search
from inheritune.choosing.by_hand import blocks_by_hand, last_to_go, start_by_hand
from inheritune.choosing.choice import from_record, to_record
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.diagnosis.diagnose import cost, diagnose, forget
from inheritune.disk.files import digest
from inheritune.disk.folders import remove, whole_folder
from inheritune.errors import OutputError
from inheritune.evidence.power import DIFFERENCE, tokens_needed
from inheritune.evidence.sequential import reach_left
from inheritune.progress import Progress, Rates
from inheritune.records.rows import METRICS, DecisionRow, GrowthRow, MetricsRow
from inheritune.records.stages import (
    MAPS,
    PROFILE,
    REMOVALS,
    REPAIR,
    BlockOrder,
    DiagnosisCost,
    PlannedLooks,
    Position,
    RoundEnd,
    RoundStart,
    RoundSteps,
)
from inheritune.report.profile import Profile
from inheritune.report.profile_table import left_out
from inheritune.runs.actions import Action, Finished, Grow, Inherit, Plan, Stop
from inheritune.runs.algorithm import Ask
from inheritune.runs.bench import Bench
from inheritune.runs.folder import once, timed
from inheritune.runs.planning import fitted_depth, hopeless, make_plan, plan_looks
from inheritune.runs.rounds import RoundFolder, blocks_name, newest_checkpoint
from inheritune.runs.targets import Target, cut_out, grow_from
from inheritune.runs.trackers import trackers
from inheritune.runtime import processes
from inheritune.training import checkpoint
from inheritune.training.metrics import Metrics
from inheritune.training.schedule import learning_rate, of_steps
from inheritune.words import plural, show

_NAMES = {Inherit: "inherit", Grow: "grow", Stop: "stop"}


class FolderLab:
    """Carries out the algorithm's steps in a run folder: a step's result is stored there, and read back when the step is called again."""

    def __init__(self, recipe: RunRecipe, folder: Path, bench: Bench, progress: Progress):
        self.recipe, self.folder, self.bench, self.progress = recipe, folder, bench, progress
        self.metrics = Metrics(folder / METRICS, trackers(recipe.track, recipe.name, folder))
        self.depth = anatomy(bench.model).depth
        self.by_hand = blocks_by_hand(recipe, self.depth)
        self.fitted = fitted_depth(bench, folder)

    def diagnose(self) -> Profile:
        """Diagnose the reference; writes `profile.json` and `diagnosis.json` (its cost)."""
        place = self.folder / PROFILE
        before = " (measured before)" if (self.folder / DiagnosisCost.NAME).exists() else ""
        self.progress.stage(f"Diagnosis of {self.bench.reference.name}, {self.depth} blocks{before}")
        if self.bench.coding.chat.of_assistant:
            self.progress.note(
                "diagnosis, choice, repair and outside texts ask for all tokens; training, validation and the verdict for the"
                " assistant's alone"
            )

        self.progress.goes_on("The diagnosis", self.folder / MAPS)

        def measure() -> DiagnosisCost:
            wanted = self.recipe.diagnosis
            profile = diagnose(
                self.bench.model,
                self.bench.sequences(wanted.sequences, wanted.length),
                unasked=self.bench.begin.unasked,
                documents=self.bench.documents_of(wanted.sequences, wanted.length),
                threshold=wanted.threshold,
                minutes=wanted.minutes,
                kept=self.folder,
                tell=Rates(self.progress),
            ).model_copy(update={"model": self.bench.reference.name})
            profile.save(place)
            forget(self.folder)
            spent = cost(self.bench.model, profile)
            return DiagnosisCost(**dict(spent), profile=digest(place))

        measured = once(DiagnosisCost, self.folder / DiagnosisCost.NAME, measure)
        profile = Profile.load(place)
        if measured.profile and measured.profile != digest(place):
            raise OutputError(
                f"{str(place)!r} is damaged (it is not what was written there): remove it and {DiagnosisCost.NAME}, and the same"
                " command makes them again"
            )
        self.progress.note(profile.suggestion.reason)
        for line in left_out(profile, "diagnosis.minutes"):
            self.progress.note(line)
        return profile

    def choose(self, profile: Profile) -> Ordering:
        """Order the blocks; writes `choice.json`."""
        wanted = self.recipe.choice

        def measure() -> BlockOrder:
            tokens_BT = self.bench.sequences(wanted.sequences, self.recipe.data.sequence_length)
            choice, seconds = timed(lambda: CRITERIA[wanted.method](self.bench.model, tokens_BT, profile, search))
            return to_record(replace(choice, order=last_to_go(choice.order, self.by_hand)), seconds, precision)

        count, kept = (
            partial(Rates(self.progress, early=True), f"Choice of blocks: {wanted.method}"),
            self.folder / REMOVALS,
        )
        precision, unasked = self.bench.precision_of_cuts, self.bench.begin.unasked
        self.progress.goes_on("The choice", kept)
        search = Search(
            self._shallowest(), wanted.minutes, unasked, kept, count, hopeless(self.bench), precision=precision
        )
        choice = from_record(once(BlockOrder, self.folder / BlockOrder.NAME, measure, together=True), self.depth)
        kept.unlink(missing_ok=True)
        self.progress.note(f"Choice: {choice.reason}. First to go: {', '.join(map(str, choice.order[:6]))}")
        return choice

    def plan(self, choice: Ordering) -> Plan:
        """Depths and limits, from the recipe and from the losses of untrained cuts (`untrained.json`)."""
        plan, whole = make_plan(self.bench, self.folder, choice, len(self.by_hand)), self.recipe.match.confidence
        place = self.folder / PlannedLooks.NAME
        planned = once(PlannedLooks, place, lambda: plan_looks(plan.looks, len(self.bench.further), whole))
        if planned.reading_confidence:
            share = len(self.bench.documents.weights) / self.bench.most_documents
            left = reach_left(planned.confidence, planned.reading_confidence, share)
            plan = replace(plan, reach_left=left)
        if plan.fit:
            return plan
        raised = " (limits.max_rounds may be raised later)" if plan.max_rounds < plan.looks else ""
        self.progress.note(
            f"At most {plural(plan.looks, 'look')} may call a match{raised}, each at {100 * planned.confidence:.3g}% confidence, so that the"
            f" whole run errs in less than {100 * (1 - whole):.2g}%"
            + (f"; one that cannot tell reads up to {self.bench.most_documents:,} documents" if planned.reads else "")
        )
        return plan

    @property
    def planned(self) -> PlannedLooks:
        """The looks that were declared before the first round."""
        return PlannedLooks.load(self.folder / PlannedLooks.NAME)

    def inherit(self, round_: int, choice: Ordering, depth: int) -> None:
        """Cut the first target, prove it, repair it."""
        blocks = choice.blocks(depth)

        def cut(beside: Path) -> Target:
            return cut_out(self.bench, blocks, beside, self.folder, self.progress)

        self._begin(round_, blocks, cut)
        processes.on_main(lambda: remove(self.folder / REPAIR))

    def grow(self, round_: int, choice: Ordering, depth: int) -> None:
        """Add the next blocks of the choice to the target of the round before. Its optimizer's state is kept."""
        if self.recipe.growth.literal:
            return self.inherit(round_, choice, depth)
        held, blocks = self.blocks(round_ - 1), choice.blocks(depth)

        def deeper(beside: Path) -> Target:
            trained = newest_checkpoint(self._folder(round_ - 1))
            grown = grow_from(self.bench, trained, held, blocks, beside, self.progress)
            row = self._growth_row(round_, grown.model, len(blocks))
            return grown._replace(start=grown.start.model_copy(update={"growth": row}))

        self._begin(round_, blocks, deeper)
        if growth := self.started(round_).growth:
            self._note_once(growth)

    def _growth_row(self, round_: int, model: PreTrainedModel, depth: int) -> GrowthRow:
        """A growth step for the metrics: the validation loss on both sides of it, and what the learning rate does."""
        done, last, after = self._before(round_), self.finished(round_ - 1), self.bench.compare(model)
        return GrowthRow(
            round=round_, step=done.step, tokens=done.tokens, flops=done.flops, before=last.depth, after=depth,
            new_blocks=self.recipe.growth.new_blocks, loss_before=last.val_loss, loss_after=after.val_loss,
            lr_before=last.rate or 0.0, lr=learning_rate(self.recipe.training, 0), cost=after.spent,
        )  # fmt: skip

    def train(self, round_: int, steps: int, ask: Ask) -> None:
        """Train the round's target to its end, or to where `ask` ends it."""
        once(RoundSteps, self._folder(round_) / RoundSteps.NAME, lambda: RoundSteps(steps=steps))
        round_of = self.round(round_)
        if not round_of.ended:
            self.progress.stage(f"Round {round_}: {round_of.depth} blocks ({show(self.blocks(round_))})")
        round_of.train(self.target(round_), ask)

    def compare(self, round_: int) -> Finished:
        """Return the finished round, which was compared at its end."""
        found = self.finished(round_)
        seen = self.round(round_).seen()
        if round_ == 1:
            self.progress.note(
                f"{self.tokens_needed(found):,} validation tokens of this kind would show a difference of {DIFFERENCE:g} nats"
                f" per token; there are {self.bench.documents.tokens:,}"
            )
        return Finished(found.depth, found.decisive, found.tokens, found.flops, found.seconds, seen)

    def tokens_needed(self, end: RoundEnd) -> int:
        """The validation tokens that would show a small difference, estimated from a measured gap."""
        if further := end.further:
            return tokens_needed(end.decisive, further.tokens_in_all, further.confidence)
        return tokens_needed(end.gap, self.bench.documents.tokens, self.planned.confidence)

    def note(self, round_: int, action: Action) -> None:
        """Say what was decided, and write it to the metrics once."""
        name = _NAMES.get(type(action))
        if name is None:
            return
        self._note_once(DecisionRow(round=max(1, round_ - (name != "inherit")), action=name, reason=action.reason))
        self.progress.note(action.reason[0].upper() + action.reason[1:])

    def finished(self, round_: int) -> RoundEnd:
        """A finished round as it was written down."""
        return RoundEnd.load(self._folder(round_) / RoundEnd.NAME)

    def started(self, round_: int) -> RoundStart:
        """How a round started: its blocks, and the repair's cost and gain."""
        return RoundStart.load(self._folder(round_) / RoundStart.NAME)

    def blocks(self, round_: int) -> list[int]:
        """The reference's blocks that a round's target holds."""
        return self.started(round_).blocks

    def target(self, round_: int) -> PreTrainedModel:
        """The round's target with the weights of its newest checkpoint."""
        model = self.bench.cut(self.blocks(round_))
        checkpoint.load(newest_checkpoint(self._folder(round_)), model)
        return model

    def round(self, round_: int) -> RoundFolder:
        """The round as something to train."""
        blocks = self.blocks(round_)
        return RoundFolder(
            self.bench, self.progress, self._folder(round_), self.metrics,
            number=round_, depth=len(blocks), training=self._training(round_), before=self._before(round_),
            planned=self.planned, objective=self.recipe.objective.by_origin(blocks),
        )  # fmt: skip

    def _before(self, round_: int) -> Position:
        """What the rounds before this one have done."""
        before = Position()
        for done in map(self.finished, range(1, round_)):
            before.step, before.tokens = before.step + done.step, before.tokens + done.tokens
            before.flops += done.flops
        return before

    def _training(self, round_: int) -> Training:
        """The round's training: as many steps as the limits left it when it began."""
        place = self._folder(round_) / RoundSteps.NAME
        return of_steps(self.recipe.training, RoundSteps.load(place).steps) if place.exists() else self.recipe.training

    def _folders(self, round_: int) -> list[Path]:
        """The folders that a round has: none before it begins."""
        return sorted((self.folder / "rounds").glob(f"{round_:02}-*-blocks"))

    def _folder(self, round_: int) -> Path:
        if not (found := self._folders(round_)):
            raise OutputError(f"{str(self.folder / 'rounds')!r} has no round {round_}: {RoundEnd.MENDED_BY}")
        return found[0]

    def _begin(self, round_: int, blocks: list[int], make: Callable[[Path], Target]) -> None:
        """Make a round's first checkpoint in a folder beside its place, and move it there when it is whole."""

        def begin() -> None:
            if self._folders(round_):
                return self._refuse_other_blocks(round_, blocks)
            with whole_folder(self.folder / "rounds" / blocks_name(round_, blocks)) as beside:
                target = make(beside)
                checkpoint.save(beside / "checkpoints", target.model, target.optimizer, Position())
                target.start.save(beside / RoundStart.NAME)

        processes.on_main(begin)

    def _refuse_other_blocks(self, round_: int, blocks: list[int]) -> None:
        if (held := self.blocks(round_)) != blocks:
            raise OutputError(
                f"{str(self._folder(round_))!r} holds the blocks {show(held)}, and the choice of now says {show(blocks)}:"
                f" {RoundStart.MENDED_BY}"
            )

    def _note_once(self, row: MetricsRow) -> None:
        if row not in self.metrics.rows():
            self.metrics.add(row)

    def _shallowest(self) -> int:
        """The smallest depth that can be asked for: 1 where blocks are named by hand, since then all blocks have to be ordered."""
        if self.by_hand:
            return 1
        return self.fitted or start_by_hand(self.recipe.growth, self.depth) or 1
