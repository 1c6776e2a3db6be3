"""The target's attention while it trained: MaxRank of every block over tokens, from the log's rows of kind `watch`."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from inheritune.report import words
from inheritune.report.folder import RowData
from inheritune.report.style import LAZY, PAPER, WIDE, canvas, figure_style, note, rank_shades
from inheritune.words import plural


def watch_figure(rows: Sequence[RowData], blocks: Mapping[int, Sequence[int]], width: float = WIDE) -> Figure:
    """MaxRank as shade: each glance a column, each block a row by its number in the reference; triangles mark lazy layers.

    `blocks` are the target's blocks at each depth. Blocks that the target did not hold stay empty, so that a block grown
    later begins where it was grown.
    """
    shades = rank_shades(rank for row in rows for rank in row["max_rank"] if rank is not None)
    with figure_style():
        figure, axes = canvas(width, 1.4 + 0.13 * min(max(len(_held(row, blocks)) for row in rows), 40))
        axes.grid(False)
        for number in sorted({row["round"] for row in rows}):
            _round(axes, [row for row in rows if row["round"] == number], blocks, shades)
        axes.set(xlabel="tokens", ylabel="block of the reference")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: words.large_number(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5 if width > 5 else 3))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(axes.collections[0], ax=axes, label="rank k*, highest head", pad=0.01, format="%g")
    return figure


def _held(row: RowData, blocks: Mapping[int, Sequence[int]]) -> Sequence[int]:
    return blocks.get(row["depth"]) or range(row["depth"])


def _round(axes: Axes, rows: Sequence[RowData], blocks: Mapping[int, Sequence[int]], norm: BoundaryNorm) -> None:
    """Draw one round: its glances are columns, each reaching half-way to its neighbours."""
    held = _held(rows[0], blocks)
    at = np.array([float(row["tokens"]) for row in rows])
    edges = np.concatenate([at[:1], (at[1:] + at[:-1]) / 2, at[-1:]]) if len(at) > 1 else np.array([at[0], at[0] + 1])
    values = np.full((max(held) + 1, len(rows)), np.nan)
    for column, row in enumerate(rows):
        values[list(held), column] = [np.nan if rank is None else rank for rank in row["max_rank"]]
        lazy = [held[layer] for layer in row["lazy"]]
        axes.plot([at[column]] * len(lazy), lazy, "^", ms=4, color=LAZY, mec=PAPER, mew=0.6, clip_on=False, zorder=3)
    axes.pcolormesh(edges, np.arange(-0.5, max(held) + 1), values, cmap="cividis", norm=norm)
    note(axes, float(edges[0]), plural(rows[0]["depth"], "block"), "left")
