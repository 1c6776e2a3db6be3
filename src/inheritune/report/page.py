"""report.html: one self-contained page about a run, from its folder's files alone.

It fetches nothing and runs no script. It can be written at any moment of a run, and says what is missing.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import yaml
from markupsafe import Markup
from matplotlib.figure import Figure

from inheritune.report import block_figures, figures, story, words
from inheritune.report.figures import GapRow
from inheritune.report.folder import Row, RunFolder, read_run
from inheritune.report.style import NARROW, WIDE, inline_svg
from inheritune.result import Result

TEMPLATES = Path(__file__).parent / "templates"


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder, and return its path.

    Raises InputError if the folder is missing or is no run folder.
    """
    run = read_run(run_folder)
    page = _environment().get_template("report.html.j2").render(_view(run))
    path = run_folder / "report.html"
    half = path.with_name("report.html.part")
    half.write_text(page, encoding="utf-8")
    os.replace(half, path)
    return path


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": words.count,
        "flops": words.flops,
        "duration": words.duration,
        "signed": words.signed,
        "interval": words.interval,
        "ranges": words.ranges,
    }
    return environment


def _view(run: RunFolder) -> dict[str, Any]:
    result = run.result
    return {
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "name": _model_name(run),
        "result": result,
        "verdict": story.verdict(run),
        "notices": run.notices,
        "comparison": _comparison(result) if result else [],
        "reference_training": story.reference_training(result) if result else "",
        "decisions": _decisions(run),
        "choice": run.choice,
        "controls": story.controls(result) if result else [],
        "control_label": story.control_label,
        "ledger": _ledger(result) if result else [],
        "spent": story.spent(result) if result else "",
        "suggestion": _suggestion(run.profile),
        "recipe": yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True) if run.config else "",
        **_pictures(run),
    }


def _model_name(run: RunFolder) -> str:
    if run.result:
        return run.result.reference.model
    named = (run.config or {}).get("reference")
    return named if isinstance(named, str) else run.path.name


def _comparison(result: Result) -> list[tuple[str, str, str, str]]:
    """Rows of reference beside target: what, the reference's, the target's, the difference."""
    reference, target = result.reference, result.target
    return [
        ("Blocks", str(reference.depth), str(target.depth), _change(reference.depth, target.depth)),
        (
            "Parameters",
            words.count(reference.parameters),
            words.count(target.parameters),
            _change(reference.parameters, target.parameters),
        ),
        (
            "Validation loss",
            f"{reference.val_loss:.4f}",
            f"{target.val_loss:.4f}",
            words.signed(target.val_loss - reference.val_loss),
        ),
        ("Perplexity", *_perplexities(reference.val_loss, target.val_loss)),
    ]


def _perplexities(reference: float, target: float) -> tuple[str, str, str]:
    ratio = 100 * (math.exp(min(target - reference, 50)) - 1)
    return words.perplexity(reference), words.perplexity(target), f"{words.signed(ratio, 1)}%"


def _change(before: int, after: int) -> str:
    return f"{words.signed(100 * (after / before - 1), 0)}%" if before else ""


def _decisions(run: RunFolder) -> list[tuple[int, str]]:
    if run.result:
        return [(decision.round, decision.reason) for decision in run.result.decisions]
    return [(row.get("round", 0), str(row.get("reason", ""))) for row in run.of_kind("decision")]


def _ledger(result: Result) -> list[dict[str, Any]]:
    whole = result.ledger.total.flops
    return [
        {"phase": phase, "spent": spent, "share": 100 * spent.flops / whole if whole else 0.0}
        for phase, spent in result.ledger.phases.items()
    ]


def _suggestion(profile: Row | None) -> str:
    suggestion = (profile or {}).get("suggestion")
    return str(suggestion.get("reason", "")) if isinstance(suggestion, dict) else ""


def _pictures(run: RunFolder) -> dict[str, Markup | None]:
    """Each figure as wide and narrow SVG, or None where there is nothing to draw."""
    return {
        "loss_picture": _loss_picture(run),
        "gap_picture": _gap_picture(run),
        "control_picture": _control_picture(run),
        "rank_picture": _rank_picture(run),
        "map_picture": _map_picture(run),
    }


def _both(name: str, draw: Callable[[float], Figure]) -> Markup:
    """The figure drawn twice, for a screen and for a phone; the page shows the one that fits."""
    sizes = (("wide", WIDE), ("narrow", NARROW))
    drawn = (
        f'<div class="{size}">{inline_svg(draw(width), f"{name}-{size}")}</div>' for size, width in sizes
    )
    return Markup("".join(drawn))


def _loss_picture(run: RunFolder) -> Markup | None:
    curves = run.curves
    if not curves:
        return None
    loss = run.result.reference.val_loss if run.result else _logged_reference_loss(run)
    return _both("loss", lambda width: figures.loss_figure(curves, loss, width))


def _logged_reference_loss(run: RunFolder) -> float | None:
    losses = [row.get("reference_loss") for row in run.of_kind("validation")]
    return next((float(loss) for loss in reversed(losses) if isinstance(loss, int | float)), None)


def _gap_picture(run: RunFolder) -> Markup | None:
    rows = _gap_rows(run.result) if run.result else []
    margin = run.result.margin if run.result else 0.0
    return _both("gap", lambda width: figures.gap_figure(rows, margin, width)) if rows else None


def _gap_rows(result: Result) -> list[GapRow]:
    rounds = [GapRow(f"{r.depth} blocks", r.gap.mean, r.gap.low, r.gap.high) for r in result.rounds]
    controls = [
        GapRow(story.control_label(c.name), c.gap.mean, c.gap.low, c.gap.high, control=True)
        for c in result.controls or []
    ]
    return rounds + controls


def _control_picture(run: RunFolder) -> Markup | None:
    if not run.result or not run.curves:
        return None
    last = run.curves[-1]
    start = min((tokens for tokens, _ in (*last.training, *last.validation)), default=0.0)
    gaps = {"target": [(tokens - start, gap) for tokens, gap in last.gaps]}
    gaps |= {
        story.control_label(name): [point for curve in curves for point in curve.gaps]
        for name, curves in run.controls.items()
    }
    margin = run.result.margin
    drawable = len(gaps) > 1 and all(gaps.values())
    return _both("control", lambda width: figures.control_figure(gaps, margin, width)) if drawable else None


def _layers(run: RunFolder) -> list[Row]:
    layers = (run.profile or {}).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _lazy(run: RunFolder) -> list[int]:
    return [index for index, layer in enumerate(_layers(run)) if layer.get("lazy")]


def _kept(run: RunFolder) -> list[int]:
    """The target's blocks; before the end, those of the depth in training."""
    if run.result:
        return run.result.target.blocks
    depths = (run.choice or {}).get("depths")
    if not isinstance(depths, dict) or not run.curves:
        return []
    blocks = depths.get(str(run.curves[-1].depth), [])
    return [block for block in blocks if isinstance(block, int)]


def _rank_picture(run: RunFolder) -> Markup | None:
    ranks = [layer.get("max_rank") for layer in _layers(run)]
    if not any(ranks):
        return None
    return _both("rank", lambda width: block_figures.rank_figure(ranks, _lazy(run), _kept(run), width))


def _map_picture(run: RunFolder) -> Markup | None:
    kept = _kept(run)
    depth = run.result.reference.depth if run.result else len(_layers(run))
    if not kept or depth <= max(kept):
        return None
    return _both("map", lambda width: block_figures.block_map_figure(depth, kept, _lazy(run), width))
