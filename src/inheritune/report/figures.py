"""Figures of a run, from plain data: loss over tokens, gaps with their intervals, controls.

Each takes plain lists and gives a matplotlib Figure; none reads a file. `width` is in inches: style.WIDE for
screens and print, style.NARROW for phones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from inheritune.report import words
from inheritune.report.folder import Curve, CurvePoint
from inheritune.report.style import (
    INK,
    MUTED,
    REFERENCE,
    TARGET,
    TARGET_SOFT,
    WIDE,
    canvas,
    figure_style,
    legend,
    line,
    note,
)

MOST_POINTS = 300
# A control further off than this many margins is drawn at the edge, so that it does not flatten the rest.
FAR = 8
DASHED = (0, (5, 2.5))


@dataclass(frozen=True)
class GapRow:
    """One line of the gap figure: a gap and its interval, in nats per token."""

    label: str
    mean: float
    low: float
    high: float
    control: bool = False


def smooth(points: Sequence[CurvePoint], window: float = 0.08) -> list[CurvePoint]:
    """A running mean over `window` of the points, thinned to what a picture can show."""
    half = max(1, round(len(points) * window / 2))
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    middles = [*range(0, len(points) - 1, stride), len(points) - 1] if points else []
    shown = []
    for middle in middles:
        near = [loss for _, loss in points[max(0, middle - half) : middle + half + 1]]
        shown.append((points[middle][0], sum(near) / len(near)))
    return shown


def loss_figure(curves: Sequence[Curve], reference_loss: float | None, width: float = WIDE) -> Figure:
    """Validation loss over tokens, round by round, against the reference's."""
    with figure_style():
        figure, axes = canvas(width, 3.0)
        for curve in curves:
            line(axes, curve.validation, "target", color=TARGET, linewidth=2, marker="o", markersize=4)
        if reference_loss is not None:
            label = f"reference ({reference_loss:.3f})"
            axes.axhline(reference_loss, color=REFERENCE, linewidth=1.6, linestyle=DASHED, label=label)
        axes.margins(y=0.2)
        _over_rounds(axes, curves, "validation loss, nats per token", width)
        legend(figure, columns=2)
    return figure


def training_figure(curves: Sequence[Curve], width: float = WIDE) -> Figure:
    """Training loss over tokens, smoothed, round by round; on other text than the validation loss, so no figure has both."""
    with figure_style():
        figure, axes = canvas(width, 2.4)
        for curve in curves:
            line(axes, smooth(curve.training), "target", color=INK, linewidth=1)
        _focus(axes, curves)
        _over_rounds(axes, curves, "training loss, nats per token", width)
    return figure


def gap_figure(rows: Sequence[GapRow], margin: float, width: float = WIDE) -> Figure:
    """Target minus reference of rounds and controls, with intervals; the shaded range, up to the margin, is a match."""
    with figure_style():
        figure, axes = canvas(width, 0.95 + 0.34 * len(rows))
        low, high = _gap_limits(rows, margin)
        axes.set_xlim(low, high)
        axes.axvspan(low, margin, color=TARGET_SOFT, alpha=0.55, linewidth=0)
        axes.axvline(0, color=REFERENCE, linewidth=1.6, linestyle=DASHED)
        axes.axvline(margin, color=TARGET, linewidth=1)
        for place, row in enumerate(rows):
            _gap_row(axes, row, place)
        _gap_frame(axes, [row.label for row in rows], margin)
    return figure


def control_figure(gaps: Mapping[str, Sequence[CurvePoint]], margin: float, width: float = WIDE) -> Figure:
    """Gap to the reference over each model's own tokens, each look marked; the first of `gaps` is the target."""
    dashes = [DASHED, (0, (1, 1.5)), (0, (4, 1.5, 1, 1.5))]
    with figure_style():
        figure, axes = canvas(width, 2.9)
        low, high = _control_limits([points[-1][1] for points in gaps.values()], margin)
        axes.axhspan(low, margin, color=TARGET_SOFT, alpha=0.55, linewidth=0)
        axes.set_ylim(low, high)
        for index, (name, points) in enumerate(gaps.items()):
            if points[-1][1] > high:
                name += f" (far above, {words.signed(points[-1][1], 2)})"
            if index == 0:
                line(axes, points, name, color=TARGET, linewidth=2, marker="o", markersize=4)
            else:
                style = dashes[(index - 1) % len(dashes)]
                mark = "s^D"[(index - 1) % 3]
                line(axes, points, name, color=INK, linewidth=1.4, linestyle=style, marker=mark, markersize=3.5)
        axes.set_ylabel("gap, nats per token")
        _token_axis(axes)
        legend(figure, columns=3)
    return figure


def _token_axis(axes: Axes) -> None:
    axes.set_xlabel("tokens")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: words.large_number(tokens)))
    axes.set_xlim(left=0)


def _over_rounds(axes: Axes, curves: Sequence[Curve], label: str, width: float) -> None:
    _mark_rounds(axes, curves, short=width < 5 or len(curves) > 5)
    axes.set_ylabel(label)
    _token_axis(axes)


def _focus(axes: Axes, curves: Sequence[Curve]) -> None:
    """Keep the first tokens after a cut out of view, whose losses are far above all that follow."""
    losses = sorted(loss for curve in curves for _, loss in smooth(curve.training))
    if losses:
        top = losses[min(len(losses) - 1, round(0.93 * len(losses)))]
        spread = max(top - losses[0], 0.02)
        axes.set_ylim(losses[0] - 0.12 * spread, top + 0.25 * spread)


def _mark_rounds(axes: Axes, curves: Sequence[Curve], short: bool) -> None:
    """A line where each round begins, its depth above it."""
    start = 0.0
    for curve in curves:
        end = max([start, *(tokens for tokens, _ in (*curve.training, *curve.validation))])
        if start:
            axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=(0, (1, 2)))
        if curve.depth:
            note(axes, (start + end) / 2, f"{curve.depth}" if short else f"{curve.depth} blocks")
        start = end


def _gap_limits(rows: Sequence[GapRow], margin: float) -> tuple[float, float]:
    """Limits that hold every round, and every control that is not far off."""
    near = [row for row in rows if not row.control or abs(row.mean) < FAR * margin]
    low, high = min([0, *(row.low for row in near)]), max([margin, *(row.high for row in near)])
    room = 0.12 * max(high - low, 4 * margin)
    return low - 2 * room, high + 2 * room


def _control_limits(ends: Sequence[float], margin: float) -> tuple[float, float]:
    """Limits that hold the target's end, and those controls' that are not far off."""
    near = [end for end in ends[1:] if abs(end) < FAR * margin]
    low, high = min([0, ends[0], *near]), max([margin, ends[0], *near])
    room = max(high - low, 4 * margin)
    return low - 0.3 * room, high + 1.2 * room


def _gap_row(axes: Axes, row: GapRow, place: int) -> None:
    """An interval with its mean; what lies beyond the panel is an arrow at its edge."""
    colour, marker = (INK, "D") if row.control else (TARGET, "o")
    left, right = axes.get_xlim()
    if not left <= row.mean <= right:
        above = row.mean > right
        edge, arrow, inwards = (right, ">", -1) if above else (left, "<", 1)
        axes.plot([edge], [place], arrow, color=colour, markersize=7, clip_on=False)
        axes.annotate(
            words.signed(row.mean, 2),
            (edge, place),
            xytext=(9 * inwards, 0),
            textcoords="offset points",
            ha="right" if above else "left",
            va="center",
            color=colour,
            fontsize=8.5,
        )
        return
    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.2)
    axes.plot([row.low, row.high], [place, place], "|", color=colour, markersize=9, markeredgewidth=1.6)
    axes.plot([row.mean], [place], marker, color=colour, markersize=5.5)


def _gap_frame(axes: Axes, labels: Sequence[str], margin: float) -> None:
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("gap, nats per token")
    axes.xaxis.set_major_locator(MaxNLocator(4 if axes.get_figure().get_figwidth() < 5 else 6))  # type: ignore[union-attr]
    note(axes, 0, "reference", side="right", colour=REFERENCE)
    note(axes, margin, "margin", side="left", colour=TARGET)
