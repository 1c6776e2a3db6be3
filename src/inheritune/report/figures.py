"""The figures of a run, from plain data: loss over tokens, gaps with their intervals, attention ranks, the block map.

Each takes plain lists and gives a matplotlib Figure; none reads a file. `width` is in inches (style.WIDE, style.NARROW).
Blocks and layers count from 0, as in the block lists.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from inheritune.report import words
from inheritune.report.folder import Curve, Point
from inheritune.report.style import (
    CONTROL,
    INK,
    LAZY,
    MUTED,
    NARROW,
    PAPER,
    REFERENCE,
    TARGET,
    TARGET_SOFT,
    WIDE,
    figure_style,
)

MOST_POINTS = 300


@dataclass(frozen=True)
class GapRow:
    """One line of the gap figure; no interval if only one look was taken."""

    label: str
    mean: float
    low: float | None = None
    high: float | None = None
    control: bool = False


def smooth(points: Sequence[Point], window: float = 0.03) -> list[Point]:
    """A running mean over `window` of the points, thinned to what a picture can show."""
    half = max(1, round(len(points) * window / 2))
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    middles = sorted({*range(0, len(points), stride), len(points) - 1} - {-1})
    shown = []
    for middle in middles:
        near = [loss for _, loss in points[max(0, middle - half) : middle + half + 1]]
        shown.append((points[middle][0], sum(near) / len(near)))
    return shown


def loss_figure(curves: Sequence[Curve], reference_loss: float | None, width: float = WIDE) -> Figure:
    """Training loss (thin, smoothed) and validation loss over tokens, each round apart, against the reference's."""
    with figure_style():
        figure, axes = _canvas(width, 3.3)
        for curve in curves:
            _line(
                axes,
                smooth(curve.training),
                color=CONTROL,
                linewidth=1,
                alpha=0.75,
                label="training, smoothed",
            )
            _line(
                axes,
                curve.validation,
                color=TARGET,
                linewidth=2,
                marker="o",
                markersize=3,
                label="target, validation",
            )
        _focus(axes, curves, reference_loss)
        if reference_loss is not None:
            axes.axhline(
                reference_loss,
                color=REFERENCE,
                linewidth=1.6,
                linestyle=(0, (5, 2.5)),
                label=f"reference, validation ({reference_loss:.3f})",
            )
        _mark_rounds(axes, curves, narrow=width < 5)
        axes.set_ylabel("loss, nats per token")
        _token_axis(axes)
        _legend(axes, columns=1 if width < 5 else 3)
    return figure


def gap_figure(rows: Sequence[GapRow], margin: float, width: float = WIDE) -> Figure:
    """Target − reference of each round (and control) with its interval; the zone up to the margin is a match."""
    with figure_style():
        figure, axes = _canvas(width, 0.95 + 0.36 * len(rows))
        low, high = _gap_limits(rows, margin)
        axes.set_xlim(low, high)
        axes.axvspan(low, margin, color=TARGET_SOFT, alpha=0.55, linewidth=0)
        axes.axvline(0, color=REFERENCE, linewidth=1.6, linestyle=(0, (5, 2.5)))
        axes.axvline(margin, color=TARGET, linewidth=1)
        for place, row in enumerate(rows):
            _gap_row(axes, row, place, low, high)
        _gap_frame(axes, rows, margin)
    return figure


def control_figure(gaps: Mapping[str, Sequence[Point]], margin: float, width: float = WIDE) -> Figure:
    """Gap to the reference over each model's own tokens: the target and its controls, by name, the target first."""
    dashes = ["solid", (0, (5, 2)), (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5))]
    with figure_style():
        figure, axes = _canvas(width, 2.9)
        ends = [points[-1][1] for points in gaps.values() if points]
        for index, (name, points) in enumerate(gaps.items()):
            colour = CONTROL if index else TARGET
            style = dashes[index % len(dashes)]
            _line(axes, points, color=colour, linewidth=1.4 if index else 2, linestyle=style, label=name)
        axes.axhspan(min([0, *ends]) - 1, margin, color=TARGET_SOFT, alpha=0.55, linewidth=0)
        nearest = sorted(abs(end) for end in ends)[: max(2, len(ends) - 1)]
        axes.set_ylim(min([0, *ends]) - 0.02, max([4 * margin, *(3 * near for near in nearest)]))
        axes.set_ylabel("gap, nats per token")
        _token_axis(axes)
        _legend(axes, columns=1 if width < 5 else 3)
    return figure


def rank_figure(
    ranks: Sequence[float | None], lazy: Sequence[bool], kept: Sequence[int] = (), width: float = WIDE
) -> Figure:
    """MaxRank of each layer, on a log scale: lazy layers are triangles, layers that the target left out are hollow.

    A rank of None (a layer without softmax attention) leaves its place empty.
    """
    with figure_style():
        figure, axes = _canvas(width, 2.7)
        known = [(layer, rank) for layer, rank in enumerate(ranks) if rank is not None and rank > 0]
        axes.plot(*_columns(known), color=MUTED, linewidth=0.8, zorder=1)
        for label, layers, look in _rank_groups(known, lazy, kept):
            axes.plot(*_columns(layers), linestyle="none", label=label, zorder=2, **look)
        _rank_axes(axes, ranks)
        _legend(axes, columns=1 if width < 5 else 4)
    return figure


def block_map_figure(
    depth: int, blocks: Sequence[int], lazy: Sequence[int] = (), width: float = WIDE
) -> Figure:
    """The reference's blocks, bottom block first: filled are those in the target, hollow are left out, ▲ are lazy."""
    across = min(depth, 24 if width > 5 else 12)
    down = math.ceil(depth / across)
    with figure_style():
        cell = (width - 0.1) / across
        figure = Figure(figsize=(width, down * cell * 1.16 + 0.05))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(-0.05, across + 0.05), ylim=(down * 1.16, -0.02), aspect="equal")
        for block in range(depth):
            corner = (block % across, block // across * 1.16)
            _cell(axes, corner, block, blocks.count(block), block in lazy)
    return figure


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _columns(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _line(axes: Axes, points: Sequence[Point], label: str, **look: object) -> None:
    """A line, named in the legend once only, however many rounds draw it."""
    if label in axes.get_legend_handles_labels()[1]:
        label = "_" + label
    axes.plot(*_columns(points), label=label, **look)  # type: ignore[arg-type]


def _legend(axes: Axes, columns: int) -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.figure.legend(
            loc="outside lower left", ncols=columns, frameon=False, fontsize=8.5, handlelength=2.6
        )


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: words.count(tokens)))
    axes.set_xlim(left=0)


def _focus(axes: Axes, curves: Sequence[Curve], reference_loss: float | None) -> None:
    """Show where the decision falls: the first tokens after a cut stand far above everything that follows."""
    losses = [loss for curve in curves for _, loss in (*smooth(curve.training), *curve.validation)]
    if reference_loss is not None:
        losses.append(reference_loss)
    if not losses:
        return
    losses.sort()
    top = losses[min(len(losses) - 1, round(0.93 * len(losses)))]
    spread = max(top - losses[0], 0.02)
    axes.set_ylim(losses[0] - 0.12 * spread, top + 0.25 * spread)


def _mark_rounds(axes: Axes, curves: Sequence[Curve], narrow: bool) -> None:
    """A line where each round begins, its depth above it."""
    ends = [max(point[0] for point in (*c.training, *c.validation, (0.0, 0.0))) for c in curves]
    for start, end, curve in zip([0.0, *ends], ends, curves, strict=False):
        if start:
            axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        label = f"{curve.depth}" if narrow or len(curves) > 5 else f"{curve.depth} blocks"
        axes.annotate(
            label,
            ((start + end) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            color=INK,
            fontsize=8.5,
        )


def _gap_limits(rows: Sequence[GapRow], margin: float) -> tuple[float, float]:
    """Limits that hold every round; a control far off (a random start) is drawn at the edge instead."""
    near = [row for row in rows if not row.control or abs(row.mean) < 8 * margin] or list(rows)
    ends = [value for row in near for value in (row.mean, row.low, row.high) if value is not None]
    low, high = min([0.0, *ends]), max([margin, *ends])
    room = 0.12 * max(high - low, 4 * margin, 1e-4)
    return low - 2 * room, high + 2 * room


def _gap_row(axes: Axes, row: GapRow, place: int, low: float, high: float) -> None:
    colour, marker = (CONTROL, "D") if row.control else (TARGET, "o")
    if not low <= row.mean <= high:
        edge, arrow = (high, ">") if row.mean > high else (low, "<")
        axes.plot([edge], [place], arrow, color=colour, markersize=7, clip_on=False)
        return
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.4)
        for end in (row.low, row.high):
            axes.plot([end], [place], "|", color=colour, markersize=9, markeredgewidth=1.6)
    axes.plot([row.mean], [place], marker, color=colour, markersize=6)


def _gap_frame(axes: Axes, rows: Sequence[GapRow], margin: float) -> None:
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("target − reference, nats per token")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    for value, text, colour, side in (
        (0, "reference", REFERENCE, "right"),
        (margin, "margin", TARGET, "left"),
    ):
        axes.annotate(
            text,
            (value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-3 if side == "right" else 3, 3),
            textcoords="offset points",
            ha=side,
            va="bottom",
            color=colour,
            fontsize=8.5,
        )


def _rank_groups(
    known: Sequence[Point], lazy: Sequence[bool], kept: Sequence[int]
) -> list[tuple[str, list[Point], dict[str, object]]]:
    """Marker groups: lazy or not, in the target or not. Without a block list nothing counts as left out."""
    groups = []
    for is_lazy, marker, colour in ((False, "o", TARGET), (True, "^", LAZY)):
        for is_kept in (True, False):
            chosen = [
                (layer, rank)
                for layer, rank in known
                if lazy[int(layer)] == is_lazy and (not kept or layer in kept) == is_kept
            ]
            label = ("lazy" if is_lazy else "not lazy") + (
                "" if not kept else ", kept" if is_kept else ", left out"
            )
            face = colour if is_kept else PAPER
            look: dict[str, object] = {
                "marker": marker,
                "color": colour,
                "markerfacecolor": face,
                "markeredgewidth": 1.5,
                "markersize": 6.5 if is_lazy else 5.5,
            }
            if chosen:
                groups.append((label, chosen, look))
    return groups


def _rank_axes(axes: Axes, ranks: Sequence[float | None]) -> None:
    highest = max([2.0, *(rank for rank in ranks if rank is not None)])
    axes.set_yscale("log")
    axes.set_ylim(0.85, highest * 1.3)
    ticks = [tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if tick <= highest * 1.3]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.7, len(ranks) - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("layer of the reference")
    axes.set_ylabel("attention rank k* (highest head)")


def _cell(axes: Axes, corner: Point, block: int, times: int, lazy: bool) -> None:
    x, y = corner
    axes.add_patch(
        FancyBboxPatch(
            (x + 0.1, y + 0.1),
            0.8,
            0.8,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=TARGET if times else "none",
            edgecolor=TARGET if times else CONTROL,
            linewidth=1.1,
            linestyle="solid" if times else (0, (2.5, 2)),
        )
    )
    ink = PAPER if times else MUTED
    axes.text(x + 0.5, y + 0.5, str(block), ha="center", va="center", color=ink, fontsize=8.5)
    if times > 1:
        axes.text(x + 0.88, y + 0.16, f"×{times}", ha="right", va="top", color=ink, fontsize=6)
    if lazy:
        axes.plot([x + 0.5], [y + 1.0], "^", color=LAZY, markersize=4, clip_on=False)


__all__ = [
    "NARROW",
    "WIDE",
    "GapRow",
    "block_map_figure",
    "control_figure",
    "gap_figure",
    "loss_figure",
    "rank_figure",
    "smooth",
]
