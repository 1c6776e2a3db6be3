"""Tell where a run or a training stands, from its folder's files alone, at any moment, without torch or a lock."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe, TrainRecipe
from inheritune.config.sections import Training
from inheritune.disk.files import digest
from inheritune.disk.kept import written_lines
from inheritune.disk.locks import LOCK, is_held
from inheritune.records.entry import Amount, Count, Entry
from inheritune.records.estimate import RunEstimate
from inheritune.records.gap import GapResult
from inheritune.records.log import rows_of
from inheritune.records.result import Result
from inheritune.records.rows import METRICS, StepRow, ValidationRow
from inheritune.records.stages import (
    MAPS,
    REMOVALS,
    BeginLosses,
    BlockOrder,
    DiagnosisCost,
    Launched,
    PlannedLooks,
    RateFall,
    ReferenceLosses,
    RoundEnd,
    RoundStart,
    RoundSteps,
    Trained,
    so_far,
)
from inheritune.runs.actions import Seen
from inheritune.runs.going_on import command_of
from inheritune.runs.policy import forecast_end
from inheritune.training.schedule import falling, learning_rate, of_steps, steps_of

Working = Literal["going on", "going on or killed", "stopped", "killed", "finished"]
_RECENT = 20  # steps whose median pace gives the time that is left


class Stage(Entry):
    """What is being done: `done` of `total` parts, where they can be counted, each a `unit`."""

    name: str
    done: Count | None = None
    total: Count | None = None
    unit: str = "step"


class ForecastGap(Entry):
    """The gap in nats per token that is forecast for the end of the round, with its interval."""

    mean: float
    low: float
    high: float


class Standing(Entry):
    """The model that is trained, or was: its blocks, its last validation, and how fast it goes.

    Losses are nats per token, memory is bytes, `mfu` is the share of the machine's matrix rate that is used. `seconds_left` are those
    of this round; `cost_left` is what they cost, where the run was told a price.
    """

    depth: Count
    blocks: list[Count] | None = None
    val_loss: float | None = None
    reference_loss: float | None = None
    gap: GapResult | None = None
    forecast: ForecastGap | None = None
    tokens_per_second: Count | None = None
    memory: Count | None = None
    mfu: float | None = None
    seconds_left: Amount | None = None
    cost_left: Amount | None = None


class RunStatus(Entry):
    """Where a run, a training or a comparison stands; `goes_on` is the command that continues it."""

    folder: str
    kind: Literal["run", "train", "compare"]
    state: Working
    stage: Stage
    model: Standing | None = None
    message: str | None = None
    goes_on: str | None = None


def working(folder: Path) -> Working:
    """Whether a process works in an unfinished run folder. A folder that was left in order has no lock in it."""
    held = is_held(folder)
    if held is None:
        return "going on or killed"
    return "going on" if held else "killed" if (folder / LOCK).exists() else "stopped"


def _goes_on(folder: Path, recipe: type[RunRecipe] | type[TrainRecipe]) -> str:
    """The command that continues in a folder, by as many processes as it was begun with."""
    launch = folder / Launched.NAME
    return command_of(folder, recipe, Launched.load(launch).processes if launch.exists() else 1)


def train_status(folder: Path, tree: Mapping[str, Any]) -> RunStatus:
    """Where a training without a reference stands. Raises InputError for files that are damaged."""
    recipe = check(TrainRecipe, dict(tree))
    wanted = steps_of(recipe.training) * recipe.training.batch_tokens
    if (place := folder / Trained.NAME).exists() and (found := Trained.load(place)).tokens >= wanted:
        said = f"validation loss {found.val_loss:.4f} nats per token; the model is in {found.model_dir}"
        done = Stage(name="finished", done=found.tokens, total=found.tokens, unit="token")
        return RunStatus(folder=str(folder), kind="train", state="finished", stage=done, message=said)
    standing, stage = in_training(folder / METRICS, recipe.training)
    return RunStatus(
        folder=str(folder), kind="train", state=working(folder), model=standing, goes_on=_goes_on(folder, TrainRecipe),
        stage=stage or Stage(name="text, tokenizer and fresh weights"),
    )  # fmt: skip


def run_status(folder: Path, tree: Mapping[str, Any]) -> RunStatus:
    """Where a run stands. Raises InputError for files that are damaged."""
    recipe = check(RunRecipe, dict(tree))
    if (place := folder / "result.json").exists():
        found = Result.load(place)
        if found.recipe in (None, digest(folder / "config.yaml")):  # else it goes on by other limits, or with controls
            return _finished(folder, found)
    stage, standing = _run_stage(folder, recipe)
    if standing and standing.seconds_left is not None and (place := folder / RunEstimate.NAME).exists():
        standing = standing.model_copy(update={"cost_left": RunEstimate.load(place).cost(standing.seconds_left)})
    return RunStatus(
        folder=str(folder), kind="run", state=working(folder), stage=stage, model=standing,
        goes_on=_goes_on(folder, RunRecipe),
    )  # fmt: skip


def in_training(
    log: Path, training: Training, round_: int = 1, ended: Sequence[RoundEnd] = ()
) -> tuple[Standing | None, Stage | None]:
    """How far a round of training has come by its log, after the rounds that have `ended`; None before its first step."""
    steps = [row for row in rows_of(log, StepRow, _RECENT) if row.round == round_]
    if not steps:
        return None, None
    looks = [row for row in rows_of(log, ValidationRow) if row.gap or row.round == round_]
    starts = [sum(end.step for end in ended[:index]) for index in range(len(ended) + 1)]
    last, total, found = steps[-1], steps_of(training), next((row for row in looks[::-1] if row.round == round_), None)
    done, rate = last.step - starts[-1], median(row.tokens_per_second for row in steps)
    seen = [_seen(looks, number, start) for number, start in enumerate(starts, 1)]
    standing = Standing(
        depth=last.depth, val_loss=found.val_loss if found else None,
        reference_loss=found.reference_loss if found else None,
        gap=GapResult.of(found.gap) if found and found.gap else None,
        forecast=_forecast(seen, training), tokens_per_second=round(rate), memory=last.memory,
        mfu=median(used) if (used := [row.mfu for row in steps if row.mfu is not None]) else None,
        seconds_left=(total - done) * training.batch_tokens / rate if rate else None,
    )  # fmt: skip
    return standing, Stage(name="training", done=done, total=total)


def _seen(looks: Sequence[ValidationRow], round_: int, before: int) -> tuple[Seen, ...]:
    """A round's evaluations in its own steps, of which `before` were done in the rounds before it."""
    own = ((row, row.gap) for row in looks if row.round == round_)
    return tuple(Seen(row.step - before, row.end - before, gap, row.training_seconds) for row, gap in own if gap)


def _forecast(seen: Sequence[tuple[Seen, ...]], training: Training) -> ForecastGap | None:
    """The forecast of the current round, by which the run decides; None before the round's first comparison and at its end."""
    *before, now = seen
    if not now or now[-1].step >= now[-1].end:
        return None
    found = forecast_end(now, before, lambda step: learning_rate(training, step))
    return ForecastGap(mean=found.mean, low=found.low, high=found.high)


def _finished(folder: Path, result: Result) -> RunStatus:
    ends = [round_ for round_ in result.rounds if round_.blocks == result.target.blocks]
    target, tokens = result.target, sum(round_.tokens for round_ in result.rounds)
    return RunStatus(
        folder=str(folder), kind="run", state="finished", message=result.message,
        stage=Stage(name="finished", done=tokens, total=tokens, unit="token"),
        model=Standing(
            depth=target.depth, blocks=target.blocks, val_loss=target.val_loss,
            reference_loss=result.reference.val_loss, gap=ends[-1].decisive if ends else None,
        ),
    )  # fmt: skip


def _run_stage(folder: Path, recipe: RunRecipe) -> tuple[Stage, Standing | None]:
    """The first stage whose file is not there yet."""
    for name, stage in (
        (BeginLosses.NAME, "reference and text"),
        (ReferenceLosses.NAME, "the reference's loss on the validation documents"),
    ):
        if not (place := folder / name).exists():
            return Stage(name=stage, done=len(written_lines(so_far(place))[1:]) or None, unit="part"), None
    if not (folder / DiagnosisCost.NAME).exists():
        measured = written_lines(folder / MAPS)[1:]
        return Stage(name="diagnosis", done=len(measured) or None, unit="batch"), None
    if not (folder / BlockOrder.NAME).exists():
        return _choosing(folder, recipe), None
    if not (folder / PlannedLooks.NAME).exists():
        return Stage(name="losses of untrained cuts"), None
    return _rounds(folder, recipe)


def _choosing(folder: Path, recipe: RunRecipe) -> Stage:
    name = f"choice of blocks: {recipe.choice.method}"
    question, *removed = written_lines(folder / REMOVALS) or [{}]
    depth = question.get("depth")
    if not isinstance(depth, int):
        return Stage(name=name)
    return Stage(name=name, done=len(removed), total=depth - (recipe.growth.start or 1), unit="block left out")


def _rounds(folder: Path, recipe: RunRecipe) -> tuple[Stage, Standing | None]:
    places = sorted(folder.glob("rounds/[0-9]*-blocks"))
    if not places:
        return Stage(name="the first target: cut, proof and repair"), None
    ended = [RoundEnd.load(place / RoundEnd.NAME) for place in places if (place / RoundEnd.NAME).exists()]
    blocks = RoundStart.load(places[-1] / RoundStart.NAME).blocks
    if len(ended) < len(places):
        training, number = _training(places[-1], recipe.training), len(ended) + 1
        standing, stage = in_training(folder / METRICS, training, number, ended)
        standing = (standing or Standing(depth=len(blocks))).model_copy(update={"blocks": blocks})
        return _named(stage, f"round {number}"), standing
    for control in sorted(folder.glob("controls/*")):
        if not (control / RoundEnd.NAME).exists():
            training = recipe.training.model_copy(update={"tokens": sum(end.tokens for end in ended)})
            standing, stage = in_training(control / METRICS, training)
            return _named(stage, f"control {control.name}"), standing
    last = ended[-1]
    standing = Standing(depth=last.depth, blocks=blocks, val_loss=last.val_loss, gap=GapResult.of(last.decisive))
    guard = ", the guard" if recipe.match.guard is not None else ""
    return Stage(name=f"after round {len(ended)}: growing, controls{guard} or writing the model"), standing


def _training(place: Path, training: Training) -> Training:
    """A round's training as the limits and the policy have made it."""
    if (steps := place / RoundSteps.NAME).exists():
        training = of_steps(training, RoundSteps.load(steps).steps)
    return falling(training, RateFall.load(fall)) if (fall := place / RateFall.NAME).exists() else training


def _named(stage: Stage | None, name: str) -> Stage:
    """Return the stage under this name; without a stage, training is yet before its first step."""
    return stage.model_copy(update={"name": name}) if stage else Stage(name=f"{name}, before its first step")
