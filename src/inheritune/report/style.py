"""The look of the figures: one palette, and how a figure becomes part of a page.

Colours were chosen apart in lightness as well as in hue, so that the figures read in grey and by the
colour-blind; no meaning hangs on colour alone: the reference is dashed, lazy layers are triangles, blocks
that were left out are hollow.
"""

import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

INK = "#20252b"
MUTED = "#646c75"
GRID = "#dfe2e4"
PAPER = "#fdfdfc"
TARGET = "#0b5a94"
TARGET_SOFT = "#c9dded"
REFERENCE = "#c4560a"
LAZY = "#a3326e"
CONTROL = "#7d858d"

# On a page each colour is a variable, so that dark mode and print change the figures with the text.
_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    TARGET: "--target",
    TARGET_SOFT: "--target-soft",
    REFERENCE: "--reference",
    LAZY: "--lazy",
    CONTROL: "--control",
}

_EPOCH = "SOURCE_DATE_EPOCH"

WIDE = 7.4
NARROW = 3.5

_RC: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    # names come from users, and a dollar sign in them is not mathematics
    "text.parse_math": False,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.facecolor": PAPER,
    "figure.dpi": 100,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply the style to figures drawn within this context."""
    with rc_context(_RC):
        yield


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches; made without pyplot, so that no global state keeps it."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def line(axes: Axes, points: Sequence[tuple[float, float]], label: str, **look: Any) -> None:
    """A line through (x, y) points, named in the legend once only, however many rounds draw it."""
    if label in axes.get_legend_handles_labels()[1]:
        label = "_" + label
    axes.plot([x for x, _ in points], [y for _, y in points], label=label, **look)


def legend(figure: Figure, columns: int) -> None:
    """A legend below the panel, in one column on narrow figures."""
    narrow = figure.get_figwidth() < (WIDE + NARROW) / 2
    figure.legend(
        loc="outside lower left",
        ncols=1 if narrow else columns,
        frameon=False,
        fontsize=8.5,
        handlelength=2.6,
    )


def note(axes: Axes, x: float, text: str, side: str = "center", colour: str = INK) -> None:
    """A few words above the panel at `x`; `side` says which of their ends stands there."""
    axes.annotate(
        text,
        (x, 1),
        xycoords=("data", "axes fraction"),
        xytext=({"left": 3, "right": -3}.get(side, 0), 3),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=colour,
        fontsize=8.5,
    )


RANK_STEPS = (1, 1.5, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)


def rank_shades(ranks: Iterable[float]) -> BoundaryNorm:
    """Stepped shades for ranks and masses: distinct in grey, and drawn as shapes on a page that may show no images."""
    most = max(ranks, default=1.0)
    return BoundaryNorm(RANK_STEPS[: max(4, 1 + sum(step <= most for step in RANK_STEPS))], 256)


@contextmanager
def undated() -> Iterator[None]:
    """Draw without a date: matplotlib fails on a SOURCE_DATE_EPOCH that is not one, even if no date is asked for."""
    held = os.environ.pop(_EPOCH, None)
    try:
        yield
    finally:
        if held is not None:
            os.environ[_EPOCH] = held


def inline_svg(figure: Figure, name: str) -> str:
    """The figure as an <svg> element: colours as CSS variables, ids prefixed with `name`, nothing fetched."""
    with rc_context({**_RC, "svg.hashsalt": name}), undated():
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\sxmlns(:xlink)?="[^"]*"', "", svg)
    svg = re.sub(r'(?<=<svg )([^>]*?)width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'^(<svg [^>]*?)height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    # the page's own typeface; sizes stay
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def standalone_svg(inline: str) -> str:
    """A figure of a page as a file of its own: literal colours, as on paper, and the XML namespaces that a file declares."""
    for colour, variable in _VARIABLES.items():
        inline = inline.replace(f"var({variable})", colour)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return inline.replace("<svg ", f"<svg {names} ", 1) + "\n"
