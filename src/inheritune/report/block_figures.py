"""Figures over a model's blocks, from plain data: attention rank by layer, and which blocks a target holds.

`width` is in inches (style.WIDE, style.NARROW). Blocks and layers count from 0, as in the block lists.
"""

import math
from collections.abc import Container, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, NullLocator

from inheritune.report.folder import CurvePoint
from inheritune.report.style import (
    CONTROL,
    LAZY,
    MUTED,
    PAPER,
    TARGET,
    WIDE,
    canvas,
    figure_style,
    legend,
    line,
)
from inheritune.report.words import TIMES

RANK_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def rank_figure(
    ranks: Sequence[float | None],
    lazy: Sequence[int],
    kept: Sequence[int] = (),
    untrained: Sequence[float | None] = (),
    width: float = WIDE,
) -> Figure:
    """MaxRank by layer, on a log scale: lazy layers are triangles, those that the target left out are hollow.

    A rank of None (a layer without softmax attention) leaves its place empty; without `kept` all are filled.
    `untrained` are the ranks of the same model with fresh weights, for contrast.
    """
    known, fresh = _known(ranks), _known(untrained)
    with figure_style():
        figure, axes = canvas(width, 2.7)
        line(axes, known, "_path", color=MUTED, linewidth=0.8, zorder=1)
        for is_lazy in (False, True):
            for is_kept in (True, False):
                points = [p for p in known if (p[0] in lazy) == is_lazy and (not kept or p[0] in kept) == is_kept]
                _rank_points(axes, points, is_lazy, is_kept, named=bool(kept))
        if fresh:
            line(
                axes,
                fresh,
                "untrained weights",
                color=CONTROL,
                linewidth=1.2,
                linestyle=(0, (1, 1.5)),
                zorder=0,
            )
        _rank_frame(axes, [rank for _, rank in (*known, *fresh)], len(ranks))
        legend(figure, columns=4)
    return figure


def block_map_figure(depth: int, blocks: Sequence[int], lazy: Container[int] = (), width: float = WIDE) -> Figure:
    """The reference's blocks, input first: filled in the target, dashed left out, a triangle if lazy."""
    across = min(depth, 24 if width > 5 else 12)
    down = math.ceil(depth / across)
    row = 1.2
    with figure_style():
        figure = Figure(figsize=(width, width * down * row / max(across, 10)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, max(across, 10)), ylim=(down * row, 0))
        for block in range(depth):
            _cell(axes, (block % across, block // across * row), block, blocks.count(block), block in lazy)
    return figure


def _known(ranks: Sequence[float | None]) -> list[CurvePoint]:
    return [(layer, rank) for layer, rank in enumerate(ranks) if rank is not None and rank > 0]


def _rank_points(axes: Axes, points: Sequence[CurvePoint], is_lazy: bool, is_kept: bool, named: bool) -> None:
    if not points:
        return
    colour = LAZY if is_lazy else TARGET
    label = "lazy" if is_lazy else "not lazy"
    if named:
        label += ", in the target" if is_kept else ", left out"
    line(
        axes,
        points,
        label,
        linestyle="none",
        marker="^" if is_lazy else "o",
        markersize=6.5 if is_lazy else 5.5,
        color=colour,
        markerfacecolor=colour if is_kept else PAPER,
        markeredgewidth=1.5,
    )


def _rank_frame(axes: Axes, ranks: Sequence[float], layers: int) -> None:
    top = 1.3 * max([2.0, *ranks])
    ticks = [tick for tick in RANK_TICKS if tick <= top]
    axes.set_yscale("log")
    axes.set_ylim(0.85, top)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(-0.7, layers - 0.3)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True))
    axes.set_xlabel("layer of the reference")
    axes.set_ylabel("rank k*, highest head")


def _cell(axes: Axes, corner: CurvePoint, block: int, times: int, lazy: bool) -> None:
    x, y = corner
    outline = FancyBboxPatch(
        (x + 0.08, y + 0.08),
        0.84,
        0.84,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=TARGET if times else "none",
        edgecolor=TARGET if times else CONTROL,
        linewidth=1.1,
        linestyle="solid" if times else (0, (2.5, 2)),
    )
    axes.add_patch(outline)
    ink = PAPER if times else MUTED
    text = f"{block}{TIMES}{times}" if times > 1 else str(block)
    axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", color=ink, fontsize=8 if times < 2 else 6.5)
    if lazy:
        axes.plot([x + 0.5], [y + 1.04], "^", color=LAZY, markersize=4)
