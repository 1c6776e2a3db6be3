"""The page's pictures: which data of a run folder goes into which figure, each drawn for screens and for phones."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure

from inheritune.records.result import Result
from inheritune.report import block_figures, figures, profile_figures, story
from inheritune.report.figures import GapRow
from inheritune.report.folder import RowData, RunFolder
from inheritune.report.heads import heads_shown
from inheritune.report.style import NARROW, WIDE, inline_svg
from inheritune.report.watch_figure import watch_figure


class Pictures(NamedTuple):
    """Each figure as wide and narrow SVG, or None where there is nothing to draw; those of the diagnosis with captions."""

    loss: Markup | None
    training: Markup | None
    gap: Markup | None
    control: Markup | None
    rank: Markup | None
    map: Markup | None
    watch: Markup | None
    profile: list[tuple[Markup, str]]


def pictures(run: RunFolder) -> Pictures:
    """Draw every picture that the run has data for."""
    return Pictures(
        loss=_loss_picture(run),
        training=_training_picture(run),
        gap=_gap_picture(run),
        control=_control_picture(run),
        rank=_rank_picture(run),
        map=_map_picture(run),
        watch=_watch_picture(run),
        profile=_profile_pictures(run),
    )


def _watch_picture(run: RunFolder) -> Markup | None:
    rows = run.of_kind("watch")
    depths = (run.choice or {}).get("depths")
    blocks = {int(depth): held for depth, held in depths.items()} if isinstance(depths, dict) else {}
    seen = any(rank is not None for row in rows for rank in row["max_rank"])
    return drawn_twice("watch", lambda width: watch_figure(rows, blocks, width)) if seen else None


_CAPTIONS: dict[str, tuple[Callable[..., Figure], str]] = {
    "both": (
        profile_figures.rank_and_mass,
        "Rank and mass by layer with a band of one standard error, and the same for untrained weights where these were measured.",
    ),
    "heads": (profile_figures.head_map, "The mean rank k* of every head."),
    "influence": (
        profile_figures.influence,
        "How far each block turns the hidden state and, where it was measured, how much the loss rises if only that block is left out.",
    ),
    "curve": (
        profile_figures.inheritance_curve,
        "The loss of the blocks that are left after a cut, before any training. Training has to win back the rise.",
    ),
}


def _profile_pictures(run: RunFolder) -> list[tuple[Markup, str]]:
    """The diagnosis's own figures with their captions: those of heads and of cuts only if there are any to draw."""
    profile = run.profile
    if profile is None or not any(layer.get("heads") for layer in layers_of(run)):
        return []
    lacks = {"curve"} if not profile.get("curves") else set()
    lacks |= {"heads"} if heads_shown(layers_of(run), {}) else set()  # the page shows these interactively
    shown = {name: drawn for name, drawn in _CAPTIONS.items() if name not in lacks}
    return [(drawn_twice(name, partial(_drawn, draw, profile)), caption) for name, (draw, caption) in shown.items()]


def _drawn(draw: Callable[..., Figure], profile: RowData, width: float) -> Figure:
    return draw(profile, width=width)


def drawn_twice(name: str, draw: Callable[[float], Figure]) -> Markup:
    """The figure drawn twice, for a screen and for a phone; the page shows the one that fits."""
    sizes = (("wide", WIDE), ("narrow", NARROW))
    drawn = (f'<div class="{size}">{inline_svg(draw(width), f"{name}-{size}")}</div>' for size, width in sizes)
    return Markup("".join(drawn))


def _loss_picture(run: RunFolder) -> Markup | None:
    curves = run.curves
    if not any(curve.validation for curve in curves):
        return None
    loss = run.result.reference.val_loss if run.result else _logged_reference_loss(run)
    return drawn_twice("loss", lambda width: figures.loss_figure(curves, loss, width))


def _training_picture(run: RunFolder) -> Markup | None:
    curves = run.curves
    if not any(curve.training for curve in curves):
        return None
    return drawn_twice("training", lambda width: figures.training_figure(curves, width))


def _logged_reference_loss(run: RunFolder) -> float | None:
    losses = [row.get("reference_loss") for row in run.of_kind("validation")]
    return next((float(loss) for loss in reversed(losses) if isinstance(loss, int | float)), None)


def _gap_picture(run: RunFolder) -> Markup | None:
    rows = _gap_rows(run.result) if run.result else []
    margin = run.result.margin if run.result else 0.0
    return drawn_twice("gap", lambda width: figures.gap_figure(rows, margin, width)) if rows else None


def _gap_rows(result: Result) -> list[GapRow]:
    rounds = [GapRow(f"{r.depth} blocks", r.decisive.mean, r.decisive.low, r.decisive.high) for r in result.rounds]
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
    return drawn_twice("control", lambda width: figures.control_figure(gaps, margin, width)) if drawable else None


def layers_of(run: RunFolder) -> list[RowData]:
    """The layers of the reference's profile; none where it was not measured."""
    layers = (run.profile or {}).get("layers")
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _lazy(run: RunFolder) -> list[int]:
    return [index for index, layer in enumerate(layers_of(run)) if layer.get("lazy")]


def _kept(run: RunFolder) -> list[int]:
    """The target's blocks; in an unfinished run, those of the depth in training."""
    if run.result:
        return run.result.target.blocks
    depths = (run.choice or {}).get("depths")
    if not isinstance(depths, dict) or not run.curves:
        return []
    blocks = depths.get(str(run.curves[-1].depth), [])
    return [block for block in blocks if isinstance(block, int)]


def _rank_picture(run: RunFolder) -> Markup | None:
    ranks = [_number(layer.get("max_rank")) for layer in layers_of(run)]
    if not any(ranks):
        return None
    lazy, kept, untrained = _lazy(run), _kept(run), _untrained(run)
    return drawn_twice("rank", lambda width: block_figures.rank_figure(ranks, lazy, kept, untrained, width))


def _untrained(run: RunFolder) -> list[float | None]:
    """MaxRank by layer of untrained weights, which the diagnosis measures as a contrast; empty if it did not."""
    for contrast in (run.profile or {}).get("contrasts") or []:
        if contrast.get("name") == "untrained":
            return [_number(rank) for rank in contrast.get("max_rank", [])]
    return []


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _map_picture(run: RunFolder) -> Markup | None:
    kept = _kept(run)
    depth = run.result.reference.depth if run.result else len(layers_of(run))
    if not kept or depth <= max(kept):
        return None
    return drawn_twice("map", lambda width: block_figures.block_map_figure(depth, kept, _lazy(run), width))
