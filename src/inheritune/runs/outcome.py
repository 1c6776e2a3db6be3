"""A finished run folder as a `Result`: rounds, controls, ledger, and one sentence for people."""

import copy
import platform
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

import inheritune
from inheritune.decoder.costs import parameter_count
from inheritune.evidence.ledger import Spent, ledger
from inheritune.models.export import cache_bytes_per_token, weight_bytes
from inheritune.records.result import (
    Control,
    Decision,
    Footprint,
    GapResult,
    Ledger,
    OutsideText,
    ReferenceModel,
    Result,
    Round,
    TargetModel,
    Validation,
    Versions,
)
from inheritune.runs.actions import History, Stop
from inheritune.runs.folder import once
from inheritune.runs.lab import FolderLab
from inheritune.training.metrics import Metrics, Row

_NEXT = "next: more tokens a round (training.tokens), another learning rate (training.peak_lr), or deeper (growth.max_depth)"


def assemble(
    lab: FolderLab,
    stop: Stop,
    history: History,
    best: int,
    model: PreTrainedModel,
    controls: list[dict[str, Any]] | None,
    command: str,
) -> Result:
    """The result of a run whose target is `model`, that of round `best`."""
    rounds = [_round(lab, number) for number in range(1, len(history.rounds) + 1)]
    target = rounds[best - 1]
    reference = _reference(lab)
    outside = [OutsideText(**text) for text in _outside(lab, best, model)["texts"]]
    return Result(
        outcome=stop.outcome,
        message=_message(stop, target, reference, lab.bench.cautions(), outside),
        reference=reference,
        target=TargetModel(
            depth=target.depth,
            blocks=target.blocks,
            parameters=parameter_count(model),
            val_loss=target.val_loss,
            written_loss=_written(lab, best, model).get("val_loss"),
        ),
        rounds=rounds,
        margin=lab.recipe.match.margin,
        confidence=lab.recipe.match.confidence,
        decisions=_decisions(lab.metrics.rows()),
        controls=[Control(**control) for control in controls] if controls else None,
        ledger=Ledger(**ledger(_entries(lab, len(rounds), controls or [], best, model))),
        model_dir=str(lab.folder / "model"),
        report=str(lab.folder / "report.html"),
        seed=lab.recipe.seed,
        versions=_versions(),
        command=command,
        validation=Validation(
            documents=len(lab.bench.documents.weights),
            tokens=lab.bench.documents.tokens,
            looks=lab.looks,
            look_confidence=lab.confidence,
            tokens_needed=lab.tokens_needed(history.rounds[best - 1].gap),
        ),
        outside=outside,
    )


def _message(
    stop: Stop, target: Round, reference: ReferenceModel, cautions: list[str], outside: list[OutsideText]
) -> str:
    gap = target.gap
    seen = f"{target.depth} of {reference.depth} blocks, gap {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] nats per token"
    elsewhere = "".join(
        f"; on {text.name!r} {text.gap.mean:+.4f} [{text.gap.low:+.4f}, {text.gap.high:+.4f}], {text.gap.verdict}"
        for text in outside
    )
    warned = elsewhere + "".join(f". Caution: {caution}" for caution in cautions)
    if stop.outcome == "matched":
        return f"{gap.verdict.capitalize()}: {seen}{warned}"
    why = "the limits are reached" if stop.outcome == "budget_spent" else "the deepest target allowed does not match"
    return f"Not matched ({gap.verdict}): {seen}; {why}; {_NEXT}{warned}"


def _outside(lab: FolderLab, best: int, model: PreTrainedModel) -> dict[str, Any]:
    """The target of round `best` on the outside texts, measured once."""
    if not lab.bench.outside:
        return {"texts": []}
    place = lab.round(best).folder / "outside.json"
    return once(place, lambda: lab.bench.compare_outside(model))


def _written(lab: FolderLab, best: int, model: PreTrainedModel) -> dict[str, Any]:
    """The loss of the target's weights rounded to the dtype that they are written in, measured once; nothing in float32."""
    if lab.model_dtype == torch.float32:
        return {}

    def measure() -> dict[str, Any]:
        rounded = copy.deepcopy(model).to(lab.model_dtype).float()  # type: ignore[arg-type]
        found = lab.bench.compare(rounded)
        return {"val_loss": found.val_loss, **asdict(Spent(found.tokens, found.flops, found.seconds))}

    return once(lab.round(best).folder / "written.json", measure)


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
    name = "packed (GGUF)" if place.suffix == ".gguf" else str(dtype).removeprefix("torch.")
    cache = cache_bytes_per_token(model, dtype)
    return Footprint(weight_bytes=weight_bytes(place), dtype=name, cache_bytes_per_token=cache)


def _round(lab: FolderLab, number: int) -> Round:
    found = lab.finished(number)
    return Round(
        depth=found["depth"], blocks=lab.blocks[number], steps=found["step"], tokens=found["tokens"], flops=found["flops"],
        seconds=found["seconds"], val_loss=found["val_loss"], gap=GapResult(**found["gap"]),
    )  # fmt: skip


def _decisions(rows: list[Row]) -> list[Decision]:
    kept = ("round", "action", "reason")
    return [Decision(**{key: row[key] for key in kept}) for row in rows if row["kind"] == "decision"]


def _entries(
    lab: FolderLab, rounds: int, controls: list[dict[str, Any]], best: int, model: PreTrainedModel
) -> Iterator[tuple[str, Spent]]:
    """What each stage wrote down, by phase."""
    yield "diagnosis", _spent(once(lab.folder / "diagnosis.json", dict))
    yield "choice", _spent(once(lab.folder / "choice.json", dict))
    if (untrained := lab.folder / "untrained.json").exists():
        yield "probes", _spent(once(untrained, dict))
    yield "validation", _spent(lab.bench.beginnings)
    yield "validation", _spent(lab.bench.reference_measured)
    for number in range(1, rounds + 1):
        yield "heal", _spent(lab.started(number))
        yield "training", _spent(lab.finished(number))
    for row in lab.metrics.rows():
        if "cost" in row:
            yield "diagnosis" if row["kind"] == "watch" else "validation", _spent(row["cost"])
    if written := _written(lab, best, model):
        yield "validation", _spent(written)
    if lab.bench.outside:
        yield "outside", _spent(_outside(lab, best, model))
    for control in controls:
        rows = Metrics(lab.folder / "controls" / control["name"] / "metrics.jsonl").rows()
        yield "controls", _spent(control)
        yield from (("controls", _spent(row["cost"])) for row in rows if "cost" in row)


def _spent(row: dict[str, Any]) -> Spent:
    return Spent(row["tokens"], row["flops"], row["seconds"])


def _versions() -> Versions:
    return Versions(
        python=platform.python_version(), torch=torch.__version__, transformers=transformers.__version__,
        inheritune=inheritune.__version__, platform=platform.platform(),
    )  # fmt: skip
