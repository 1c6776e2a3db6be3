"""The figures of a comparison, from `compare.json` alone: loss over tokens and FLOPs, time to loss, gaps, ranks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from inheritune.report.style import INK, MUTED, REFERENCE, TARGET, WIDE, canvas, figure_style, legend

Row = dict[str, Any]
_DASHES = ("-", "--", "-.", ":")


def write_figures(folder: Path) -> list[Path]:
    """PNG files under `folder/figures`, drawn from `folder/compare.json`."""
    found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    places = []
    (folder / "figures").mkdir(exist_ok=True)
    for name, draw in _FIGURES.items():
        if found["rows"]:
            with figure_style():
                places.append(folder / "figures" / f"{name}.png")
                draw(found).savefig(places[-1], dpi=150)
    return places


def _look(found: Row, row: Row) -> dict[str, Any]:
    """The first method in the target's colour; the others apart in hue, lightness and dash."""
    place = [each["method"] for each in found["rows"]].index(row["method"])
    if place == 0:
        return {"color": TARGET, "linewidth": 2.4}
    share = place / max(1, len(found["rows"]) - 1)
    return {"color": colormaps["viridis"](0.92 * share), "linestyle": _DASHES[place % 4], "linewidth": 1.3}


def loss_over(found: Row, what: str) -> Figure:
    """Validation loss of each method over tokens or FLOPs, from 1.2 times the reference's loss downwards."""
    figure, axes = canvas(WIDE, 4.6)
    for row in found["rows"]:
        before = row["cost"]["prepared_flops"] if what == "flops" else 0
        points = [(point[what] + before, point["val_loss"]) for point in row["curve"]]
        axes.plot([x for x, _ in points], [y for _, y in points], label=row["method"], **_look(found, row))
    axes.axhline(found["reference_loss"], color=REFERENCE, linestyle=(0, (5, 2)), label="the reference as it is")
    ends = [row["val_loss"] for row in found["rows"]]
    low, high = min([found["reference_loss"], *ends]), max([found["reference_loss"], *ends])
    axes.set_ylim(low - 0.05 * (high - low) - 0.005, high + 0.6 * (high - low) + 0.02)
    axes.set_xlabel("training tokens" if what == "tokens" else "FLOPs, with diagnosis, choice and repair")
    axes.set_ylabel("validation loss, nats per token")
    legend(figure, 4)
    return figure


def time_to_loss(found: Row) -> Figure:
    """FLOPs until random initialisation's final loss, where a method reaches it."""
    rows = [row for row in found["rows"] if row["flops_to_random"] is not None]
    never = [row["method"] for row in found["rows"] if row["flops_to_random"] is None]
    figure, axes = _bars(rows, lambda row: (row["flops_to_random"], None))
    axes.set_xlabel("FLOPs until the final loss of random initialisation")
    if never:
        axes.set_title("never: " + ", ".join(never), loc="left", fontsize=8.5, color=MUTED, wrap=True)
    return figure


def gaps(found: Row) -> Figure:
    """Each method's gap to the reference with its interval."""
    rows = sorted(found["rows"], key=lambda row: row["gap"]["mean"])
    figure, axes = _bars(rows, lambda row: (row["gap"]["mean"], (row["gap"]["low"], row["gap"]["high"])))
    axes.axvline(0, color=REFERENCE, linewidth=1.2)
    axes.axvline(found["margin"], color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_xlabel("gap to the reference, nats per token (dashed: the margin)")
    return figure


def ranks(found: Row) -> Figure:
    """MaxRank of each layer of the final models, and of the reference (the paper's Figure 1)."""
    figure, axes = canvas(WIDE, 4.6)
    for row in found["rows"]:
        _profile(axes, row["max_ranks"], row["method"], _look(found, row))
    look = {"color": REFERENCE, "linestyle": (0, (5, 2)), "linewidth": 2}
    _profile(axes, found["reference_ranks"], "the reference as it is", look)
    axes.axhline(1, color=INK, linewidth=0.6)
    axes.set_xlabel("layer, as a share of the depth")
    axes.set_ylabel("MaxRank of 100 tokens")
    legend(figure, 4)
    return figure


def _profile(axes: Axes, values: Sequence[float | None], label: str, look: dict[str, Any]) -> None:
    known = [(place / max(1, len(values) - 1), value) for place, value in enumerate(values) if value is not None]
    axes.plot([x for x, _ in known], [y for _, y in known], label=label, **look)


def _bars(rows: Sequence[Row], value: Callable[[Row], tuple[float, tuple[float, float] | None]]) -> tuple[Figure, Axes]:
    figure, axes = canvas(WIDE, 1.2 + 0.24 * max(1, len(rows)))
    for place, row in enumerate(rows):
        mean, interval = value(row)
        axes.plot([mean], [place], "o", color=TARGET, markersize=5)
        if interval:
            axes.plot(interval, [place, place], color=TARGET, linewidth=1.8)
    axes.set_yticks(range(len(rows)), [row["method"] for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return figure, axes


_FIGURES: dict[str, Callable[[Row], Figure]] = {
    "loss-tokens": lambda found: loss_over(found, "tokens"),
    "loss-flops": lambda found: loss_over(found, "flops"),
    "time-to-loss": time_to_loss,
    "gaps": gaps,
    "ranks": ranks,
}
