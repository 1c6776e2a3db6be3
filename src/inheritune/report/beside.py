"""Several runs side by side on one page: one table and one figure, from their folders' files alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from inheritune.disk.files import make_folder, write_text
from inheritune.errors import InputError
from inheritune.records.gap import GapResult
from inheritune.report import words
from inheritune.report.card import TEMPLATES
from inheritune.report.figures import GapRow, gap_figure
from inheritune.report.folder import RowData, RunFolder, read_run
from inheritune.report.page import environment
from inheritune.report.pictures import drawn_twice
from inheritune.report.story import target_gap
from inheritune.words import harmless, plural

PAGE = "compare.html"


@dataclass(frozen=True)
class RunRow:
    """A run's line in the table: what it is, how far it came, and what it took; `gap` is its target's, or in an unfinished run the last."""

    name: str
    state: str
    reference: str
    blocks: str
    parameters: str
    loss: str
    gap: GapResult | None
    guard: str
    tokens: str
    seconds: str
    disk: str


def write_beside(runs: Sequence[Path], folder: Path) -> Path:
    """Write `compare.html` into a folder, and return its path.

    Raises InputError for a folder that is no run, for fewer than two runs, and for a run that is named twice.
    """
    if len(runs) < 2:
        raise InputError("--compare sets runs beside each other: name two or more")
    if twice := next((run for run in runs if [each.resolve() for each in runs].count(run.resolve()) > 1), None):
        raise InputError(f"{str(twice)!r} is named twice: name each run once")
    read = [read_run(run) for run in runs]
    rows = [_row(run) for run in read]
    margins = [float(run.result.margin) for run in read if run.result]
    gaps = [GapRow(row.name, row.gap.mean, row.gap.low, row.gap.high) for row in rows if row.gap]
    margin = min(margins, default=0.01)
    page = (
        environment()
        .get_template("beside.html.j2")
        .render(
            css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
            rows=rows,
            figure=drawn_twice("gaps", lambda width: gap_figure(gaps, margin, width)) if gaps else None,
            margin=margin,
            guarded=any(row.guard for row in rows),
            one_margin=len(set(margins)) < 2,
            notices=[f"{run.path.name}: {notice}" for run in read for notice in run.notices],
        )
    )
    make_folder(folder)
    write_text(folder / PAGE, harmless(page))
    return folder / PAGE


def _row(run: RunFolder) -> RunRow:
    result = run.result
    if result is None:
        return _unfinished(run)
    target, held = result.target, result.target.footprint
    warned = f", {plural(result.cautions, 'caution')}" if result.cautions else ""
    return RunRow(
        name=run.path.name, state=result.outcome.replace("_", " ") + warned, reference=result.reference.model,
        blocks=f"{target.depth} of {result.reference.depth}", parameters=words.large_number(target.parameters),
        loss=f"{target.val_loss:.4f}", gap=target_gap(result),
        guard=result.guard.told if result.guard else "",
        tokens=words.large_number(sum(each.tokens for each in result.rounds)),
        seconds=words.duration(result.ledger.total.seconds), disk=words.size(held.weight_bytes) if held else "",
    )  # fmt: skip


def _unfinished(run: RunFolder) -> RunRow:
    named = (run.config or {}).get("reference")
    looks = run.of_kind("validation")
    last: RowData = looks[-1] if looks else {}
    loss = last.get("val_loss")
    return RunRow(
        name=run.path.name, state="not finished", reference=named if isinstance(named, str) else "",
        blocks=str(last.get("depth", "")), parameters="", loss=f"{loss:.4f}" if isinstance(loss, float) else "",
        gap=_gap(last.get("gap")), guard="", tokens=words.large_number(_number(last.get("tokens"))), seconds="", disk="",
    )  # fmt: skip


def _gap(found: object) -> GapResult | None:
    try:
        return GapResult.model_validate(found)
    except ValueError:
        return None


def _number(found: object) -> float | None:
    return float(found) if isinstance(found, int | float) and math.isfinite(found) else None
