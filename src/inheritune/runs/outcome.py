"""Sum up a finished run folder as a `Result`: rounds, controls, ledger, and one sentence for people."""

import platform
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from transformers import PreTrainedModel

import inheritune
from inheritune.decoder.costs import parameter_count
from inheritune.decoder.counted import miscounted
from inheritune.disk.files import digest
from inheritune.evidence.ledger import Costly, ledger
from inheritune.models.export import cache_bytes_per_token, rounded, weight_bytes
from inheritune.records.estimate import RunEstimate
from inheritune.records.gap import GapResult
from inheritune.records.guard import Guard, GuardAnswers
from inheritune.records.result import (
    CAUTION,
    PACKED,
    Control,
    Decision,
    Footprint,
    Ledger,
    OutsideText,
    PlanHeld,
    ReferenceModel,
    Result,
    Round,
    TargetModel,
    Validation,
    Versions,
    trained_on,
)
from inheritune.records.rows import METRICS, DecisionRow, GrowthRow, StepRow, ValidationRow, WatchRow
from inheritune.records.stages import (
    BlockOrder,
    DiagnosisCost,
    OutsideLosses,
    OwnRate,
    ReferenceLosses,
    Untrained,
    WrittenLoss,
)
from inheritune.records.token_by_token import TokenByToken
from inheritune.runs.actions import History, Stop
from inheritune.runs.folder import CONFIG, once
from inheritune.runs.guarded import guard_answers, guarded, read_by_token
from inheritune.runs.lab import FolderLab
from inheritune.runs.reading_on import further_reference
from inheritune.runs.sampled import side_by_side
from inheritune.runtime import gauge
from inheritune.training.metrics import Metrics

_NEXT = "Next: more tokens a round (training.tokens){}. Another run on the same validation documents is a further look at them"
ALONE = (
    f". {CAUTION}it learnt from this text, which the reference as it is did not, and that alone may make it better: --controls trains the"
    " reference on as many tokens too"
)
_DEEPER, _DEEPEST = (
    ", another learning rate (training.peak_lr), or deeper ({})",
    " or another learning rate (training.peak_lr)",
)


def assemble_result(
    lab: FolderLab,
    stop: Stop,
    history: History,
    best: int,
    model: PreTrainedModel,
    controls: list[Control],
    command: str,
) -> Result:
    """Assemble the result of a run whose target is `model`, that of round `best`."""
    rounds = [_round(lab, number) for number in range(1, len(history.rounds) + 1)]
    target = rounds[best - 1]
    reference = _reference(lab)
    outside, written, planned = _outside(lab, best, model), _written(lab, best, model), lab.planned
    texts = outside.texts if outside else []
    asked = _guard_answers(lab, best, model)
    able = guarded(lab.bench, *asked) if asked else None
    by_token = _by_token(lab, best, model)
    beside = side_by_side(lab.bench, model, lab.round(best).folder)
    cautions = lab.bench.cautions(target.further.documents if target.further else 0)
    if counted := miscounted(lab.bench.model.config, model.config):
        cautions.append(counted)
    spent = Ledger(**ledger(_entries(lab, len(rounds), controls, best, model)))
    return Result(
        outcome=stop.outcome,
        message=_message(stop, target, reference, cautions, texts)
        + _beside_whole(target, controls, lab.recipe.match.margin)
        + _able(able),
        reference=reference,
        target=TargetModel(
            depth=target.depth,
            blocks=target.blocks,
            parameters=parameter_count(model),
            val_loss=target.val_loss,
            written_loss=written.val_loss if written else None,
        ),
        rounds=rounds,
        margin=lab.recipe.match.margin,
        confidence=lab.recipe.match.confidence,
        decisions=_decisions(lab.metrics),
        controls=controls or None,
        ledger=spent,
        model_dir=str(lab.folder / "model"),
        report=str(lab.folder / "report.html"),
        seed=lab.recipe.seed,
        versions=_versions(),
        command=command,
        validation=Validation(
            documents=len(lab.bench.documents.weights),
            tokens=lab.bench.documents.tokens,
            looks=planned.looks,
            look_confidence=planned.confidence,
            tokens_needed=lab.tokens_needed(lab.finished(best)),
            precision=lab.recipe.training.precision,
        ),
        outside=texts,
        guard=able,
        token_by_token=by_token,
        side_by_side=beside,
        planned=_planned(lab, spent, rounds),
        recipe=digest(lab.folder / CONFIG),
    )


def _message(
    stop: Stop, target: Round, reference: ReferenceModel, cautions: list[str], outside: list[OutsideText]
) -> str:
    gap = target.decisive
    seen = f"{target.depth} of {reference.depth} blocks, gap {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] nats per token"
    seen += "".join(
        f"; on {text.name!r} {text.gap.mean:+.4f} [{text.gap.low:+.4f}, {text.gap.high:+.4f}], {text.gap.verdict}"
        for text in outside
    )
    warned = "".join(f". {CAUTION}{caution}" for caution in cautions)
    if stop.outcome == "matched":
        return f"{gap.verdict.capitalize()}: {seen}{warned}"
    if stop.outcome == "fitted":
        return f"Fitted ({gap.verdict}): {seen}. No match is claimed{warned}"
    spent = stop.outcome == "budget_spent"
    deeper = _DEEPER.format("growth.start" if spent else "growth.max_depth")
    more = deeper if target.depth < reference.depth - 1 else _DEEPEST
    why = "The limits are reached" if spent else "The deepest target allowed does not match"
    return f"Not matched ({gap.verdict}): {seen}. {why}. {_NEXT.format(more)}{warned}"


def _beside_whole(target: Round, controls: list[Control], margin: float) -> str:
    """Say how far the target is behind the reference trained on; without that control, caution where the target surpasses the reference."""
    best = trained_on(controls)
    if best is None:
        return ALONE if target.decisive.verdict == "surpassed" else ""
    if (behind := best.target).mean < margin:
        return ""
    return f". It stands {behind.mean:+.4f} [{behind.low:+.4f}, {behind.high:+.4f}] behind what the same tokens make of the reference itself"


def _able(guard: Guard | None) -> str:
    """The verdict's second part: what the guard set says."""
    return f". Guard: {guard.told}" if guard else ""


def _planned(lab: FolderLab, spent: Ledger, rounds: list[Round]) -> PlanHeld | None:
    """The plan that the run began with, beside what the run took; None for a run that began without a plan."""
    place = lab.folder / RunEstimate.NAME
    if not place.exists():
        return None
    plan = RunEstimate.load(place)
    held = [row.memory or 0 for row in lab.metrics.of(StepRow)]
    seconds, took = plan.total.seconds + (len(rounds) - 1) * plan.further_round.seconds, spent.total.seconds
    expected = next((each for each in plan.reach if each.depth == rounds[0].depth), None)
    return PlanHeld(
        planned_seconds=seconds, seconds=took, planned_cost=plan.cost(seconds), cost=plan.cost(took),
        planned_memory=plan.total.memory, memory=max([gauge.peak_memory(lab.bench.home), *held]),
        expected_gap=expected.gap if expected else None, expected_chance=expected.chance if expected else None,
        expected_tokens=plan.round_tokens if expected else None,
    )  # fmt: skip


def _outside(lab: FolderLab, best: int, model: PreTrainedModel) -> OutsideLosses | None:
    """The target of round `best` on the outside texts, measured once; None where there are none."""
    if not lab.bench.outside:
        return None
    place = lab.round(best).folder / OutsideLosses.NAME
    return once(OutsideLosses, place, lambda: lab.bench.compare_outside(model))


def _guard_answers(lab: FolderLab, best: int, model: PreTrainedModel) -> tuple[GuardAnswers, ...]:
    """The answers of the target of round `best` and of the reference, each asked once; empty where the recipe asks for no guard."""
    if lab.recipe.match.guard is None:
        return ()
    asked = ((model, lab.round(best).folder, "Target"), (lab.bench.model, lab.folder, lab.bench.reference.name))
    return tuple(guard_answers(lab.bench, one, place / GuardAnswers.NAME, name) for one, place, name in asked)


def _by_token(lab: FolderLab, best: int, model: PreTrainedModel) -> TokenByToken | None:
    """The target of round `best` beside the reference token by token, measured once; None where no guard is asked for."""
    if lab.recipe.match.guard is None:
        return None
    return read_by_token(lab.bench, model, lab.round(best).folder / TokenByToken.NAME)


def _written(lab: FolderLab, best: int, model: PreTrainedModel) -> WrittenLoss | None:
    """The loss of the target's weights rounded to the dtype that they are written in, measured once; None in float32."""
    if lab.bench.written_dtype == torch.float32:
        return None

    def measure() -> WrittenLoss:
        found = lab.bench.compare(rounded(model, lab.bench.written_dtype))
        return WrittenLoss(val_loss=found.val_loss, **dict(found.spent))

    return once(WrittenLoss, lab.round(best).folder / WrittenLoss.NAME, measure)


def _reference(lab: FolderLab) -> ReferenceModel:
    reference, parameters = lab.bench.reference, parameter_count(lab.bench.model)
    trained = reference.trained_tokens
    return ReferenceModel(
        model=reference.name, depth=lab.depth, parameters=parameters, val_loss=lab.bench.reference_loss,
        trained_tokens=trained, tokens_per_parameter=trained / parameters if trained else None,
        footprint=footprint(reference.place, lab.bench.model, reference.dtype),
    )  # fmt: skip


def footprint(place: Path, model: PreTrainedModel, dtype: torch.dtype) -> Footprint:
    """What the model at `place` takes on the disk, and in the cache when it runs in `dtype`."""
    name = PACKED if place.suffix == ".gguf" else str(dtype).removeprefix("torch.")
    cache = cache_bytes_per_token(model, dtype)
    return Footprint(weight_bytes=weight_bytes(place), dtype=name, cache_bytes_per_token=cache)


def _round(lab: FolderLab, number: int) -> Round:
    found = lab.finished(number)
    return Round(
        depth=found.depth, blocks=lab.blocks(number), steps=found.step, tokens=found.tokens, flops=found.flops,
        seconds=found.seconds, val_loss=found.val_loss, gap=GapResult.of(found.gap), further=found.further,
    )  # fmt: skip


def _decisions(metrics: Metrics) -> list[Decision]:
    return [Decision(round=row.round, action=row.action, reason=row.reason) for row in metrics.of(DecisionRow)]


def _readings(lab: FolderLab, rounds: int) -> Iterator[ReferenceLosses]:
    """Yield the reference's losses on the further documents that some round has read; those whose record is gone are measured anew."""
    ends = [lab.finished(number).further for number in range(1, rounds + 1)]
    most, seen = max((end.documents for end in ends if end), default=0), len(lab.bench.documents.weights)
    for number in range(lab.planned.reads):
        more = lab.bench.further_documents(number)
        if seen < most and more.tokens:
            yield lab.bench.reference_on(more, further_reference(lab.folder, number))
            seen += len(more.weights)


def _entries(
    lab: FolderLab, rounds: int, controls: list[Control], best: int, model: PreTrainedModel
) -> Iterator[tuple[str, Costly]]:
    """Yield the cost that each stage wrote down, with its phase."""
    yield "diagnosis", DiagnosisCost.load(lab.folder / DiagnosisCost.NAME)
    yield "choice", BlockOrder.load(lab.folder / BlockOrder.NAME)
    if (untrained := lab.folder / Untrained.NAME).exists():
        yield "choice", Untrained.load(untrained)
    yield "validation", lab.bench.beginnings
    yield "validation", lab.bench.reference_measured
    for number in range(1, rounds + 1):
        yield "heal", lab.started(number)
        yield "training", (end := lab.finished(number))
        if end.further:
            yield "validation", end.further
    yield from (("validation", read) for read in _readings(lab, rounds))
    yield from _measured(lab.metrics)
    if written := _written(lab, best, model):
        yield "validation", written
    if outside := _outside(lab, best, model):
        yield "outside", outside
    yield "samples", side_by_side(lab.bench, model, lab.round(best).folder)
    yield from (("guard", cost) for cost in _guard_answers(lab, best, model))
    if by_token := _by_token(lab, best, model):
        yield "guard", by_token
    for control in controls:
        place = lab.folder / "controls" / control.name
        yield "controls", control
        if (rate := place / OwnRate.NAME).exists():
            yield "controls", OwnRate.load(rate)
        yield from (("controls", cost) for _, cost in _measured(Metrics(place / METRICS)))


def _measured(metrics: Metrics) -> Iterator[tuple[str, Costly]]:
    """Yield the cost of each measurement beside the training, with its phase."""
    for row in metrics.rows():
        if isinstance(row, ValidationRow | GrowthRow | WatchRow):
            yield "diagnosis" if isinstance(row, WatchRow) else "validation", row.cost


def _versions() -> Versions:
    return Versions(
        python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
        inheritune=inheritune.__version__, platform=platform.platform(),
    )  # fmt: skip
