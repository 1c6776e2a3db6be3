"""The figures of a comparison, from `compare.json` alone: loss over tokens and FLOPs, time to loss, gaps, ranks.

Many methods in one panel cannot be told apart, so each kind of method has a panel of its own. Three lines are in all of them: the
reference as it is, the reference trained on, and the first method, to which the table's differences refer.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from inheritune.disk.files import make_folder, whole_file
from inheritune.records.comparison import at_most
from inheritune.report.style import CONTROL, INK, LAZY, MUTED, REFERENCE, TARGET, WIDE, canvas, figure_style

MethodData = dict[str, Any]
Line = tuple[str, list[tuple[float, float]]]

_KINDS = {
    "blocks by place": ("published", "as-released", "identity", "last-blocks", "middle-blocks"),
    "blocks by measure": ("inheritune", "influence", "angular", "healing", "lazy-blocks"),
    "parts of blocks": ("attention-only", "mlp-only", "without-norms", "half-width"),
    "from random weights": ("random", "random-twice", "random-total", "late-expansion"),
    "stacked": ("stacking", "stacking-twice", "hybrid", "hybrid-as-released"),
    "distilled": ("logits-random", "logits-inherited", "distilbert-random", "distilbert"),
}
_ALONE = 4  # up to so many methods share one panel
# Different in lightness; dashes tell lines apart where neither lightness nor colour does.
_LOOKS: tuple[dict[str, Any], ...] = (
    {"color": INK, "linestyle": "-"},
    {"color": LAZY, "linestyle": (0, (6, 2))},
    {"color": "#1d6f5c", "linestyle": (0, (1, 1.2))},
    {"color": "#a98600", "linestyle": (0, (6, 1.5, 1, 1.5))},
    {"color": CONTROL, "linestyle": (0, (3, 1, 1, 1, 1, 1))},
)
_AS_IT_IS = "reference as it is"


def write_figures(folder: Path) -> list[Path]:
    """Draw PNG files in `folder/figures` from `folder/compare.json`; return their paths."""
    found = json.loads((folder / "compare.json").read_text(encoding="utf-8"))
    places = []
    make_folder(folder / "figures")
    for name, draw in _FIGURES.items():
        if found["rows"]:
            with figure_style():
                places.append(folder / "figures" / f"{name}.png")
                with whole_file(places[-1]) as file:
                    draw(found).savefig(file, dpi=150)
    return places


def loss_over(found: MethodData, what: str) -> Figure:
    """Validation loss of each method over tokens or FLOPs, with a horizontal line for the reference's."""
    lines = []
    for row in found["rows"]:
        before = row["cost"]["prepared_flops"] if what == "flops" else 0
        lines.append((row["method"], [(point[what] + before, point["val_loss"]) for point in row["curve"]]))
    most = max(points[-1][0] for _, points in lines)
    level = (_AS_IT_IS, [(0.0, found["reference_loss"]), (most, found["reference_loss"])])
    figure, panels = _panels(found, lines, level)
    for axes, shown in panels:
        ends = [points[-1][1] for _, points in shown]
        low, high = min(ends), max(ends)
        axes.set_ylim(low - 0.06 * (high - low) - 0.005, high + 0.6 * (high - low) + 0.02)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        _name_ends(axes, shown)
    figure.supxlabel("training tokens" if what == "tokens" else "FLOPs, with diagnosis, choice and repair", **_SMALL)
    figure.supylabel("validation loss, nats per token", **_SMALL)
    return figure


def ranks(found: MethodData) -> Figure:
    """MaxRank of each layer of the final models, and of the reference (the paper's Figure 1)."""
    lines = [(row["method"], _profile(row["max_ranks"])) for row in found["rows"]]
    figure, panels = _panels(found, lines, (_AS_IT_IS, _profile(found["reference_ranks"])))
    for axes, shown in panels:
        axes.axhline(1, color=INK, linewidth=0.6)
        axes.set_yscale("log")
        axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        axes.minorticks_off()
        _name_ends(axes, shown)
    figure.supxlabel("layer, as a share of the depth", **_SMALL)
    figure.supylabel("MaxRank", **_SMALL)
    return figure


def time_to_loss(found: MethodData) -> Figure:
    """FLOPs until a method reaches the final loss of random initialisation, if it does; the fastest first."""
    rows = [row for row in found["rows"] if row["flops_to_random"] is not None]
    never = [row["method"] for row in found["rows"] if row["flops_to_random"] is None]
    rows = sorted(rows, key=lambda row: row["flops_to_random"])
    words = EngFormatter(places=1, sep="")
    figure, axes = _points(
        [(row["method"], row["flops_to_random"], f"{_mark(row)}{words(row['flops_to_random'])}") for row in rows]
    )
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("FLOPs, with diagnosis, choice and repair, until the final loss of random initialisation")
    if never:
        random = any(row["method"] == "random" for row in found["rows"])
        title = "never: " + ", ".join(never) if random else "unknown: the method random is not in the table"
        axes.set_title(title, loc="left", fontsize=8.5, color=MUTED, wrap=True)
    return figure


def _mark(row: dict[str, Any]) -> str:
    return at_most(row["method"], row["tokens_to_random"], [point["tokens"] for point in row["curve"]])


def gaps(found: MethodData) -> Figure:
    """Each method's gap to the reference with its interval, the smallest first."""
    rows = sorted(found["rows"], key=lambda row: row["gap"]["mean"])
    figure, axes = _points(
        [(row["method"], gap["mean"], f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]")
         for row in rows for gap in (row["gap"],)]
    )  # fmt: skip
    for place, row in enumerate(rows):
        axes.plot([row["gap"]["low"], row["gap"]["high"]], [place, place], color=TARGET, linewidth=1.8)
    axes.axvline(0, color=REFERENCE, linewidth=1.2)
    axes.axvline(found["margin"], color=MUTED, linewidth=0.8, linestyle="--")
    axes.set_xlabel("gap to the reference, nats per token (dashed: the margin)")
    return figure


_SMALL: Any = {"fontsize": 9, "color": MUTED}


def _panels(found: MethodData, lines: Sequence[Line], level: Line) -> tuple[Figure, list[tuple[Axes, list[Line]]]]:
    """A panel for each kind of method, its lines named at their ends, all other lines pale behind them."""
    first, by_name = lines[0][0], dict(lines)
    always = [name for name in (first, "reference") if name in by_name]
    kinds = list(_kinds([name for name, _ in lines if name not in always]))
    height = 1 + (len(kinds) - 1) // 2
    figure = Figure(figsize=(WIDE, 3.8 if len(kinds) == 1 else 0.5 + 2.5 * height), layout="constrained")
    grid = figure.subplots(height, min(2, len(kinds)), squeeze=False).flatten()
    panels = []
    for axes, (title, names) in zip(grid, kinds, strict=False):
        looks = {first: {"color": TARGET, "linewidth": 2.2}, "reference": {"color": REFERENCE, "linewidth": 1.6}}
        looks |= {name: look | {"linewidth": 1.4} for name, look in zip(names, _LOOKS, strict=False)}
        looks[_AS_IT_IS] = {"color": REFERENCE, "linewidth": 1.2, "linestyle": (0, (5, 2))}
        shown = [line for line in (*((name, by_name[name]) for name in [*always, *names]), level) if line[1]]
        for _, points in lines:
            axes.plot(*zip(*points, strict=True), color=MUTED, alpha=0.15, linewidth=0.8)
        for name, points in shown:
            alone = {"marker": "o", "markersize": 4} if len(points) == 1 else {}
            axes.plot(*zip(*points, strict=True), label=name, **looks[name], **alone)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        panels.append((axes, shown))
    for axes in grid[len(kinds) :]:
        axes.set_axis_off()
    return figure, panels


def _name_ends(axes: Axes, shown: Sequence[Line]) -> None:
    """Each line's name right of the panel, as near to the height of its end as the other names allow."""
    to_panel = axes.transData + axes.transAxes.inverted()
    axes.get_ylim()  # settles the scale
    ends = sorted((to_panel.transform(points[-1])[1], name, points[-1]) for name, points in shown)
    apart = 15 / axes.bbox.height  # pixels, at a hundred an inch
    places: list[float] = []
    for height, _, _ in ends:
        places.append(max(height, places[-1] + apart) if places else height)
    over = max([0.0, *(place - 1 for place in places)])
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    for place, (_, name, end) in zip(places, ends, strict=True):
        axes.annotate(
            name, end, xytext=(1.06, place - over), textcoords="axes fraction", fontsize=8, color=colours[name], va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.5, "color": colours[name], "shrinkA": 1, "shrinkB": 0,
                        "relpos": (0, 0.5)},
        )  # fmt: skip


def _kinds(names: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    if len(names) <= _ALONE:
        yield "", list(names)
        return
    for title, held in _KINDS.items():
        if own := [name for name in names if name in held]:
            yield title, own


def _profile(values: Sequence[float | None]) -> list[tuple[float, float]]:
    return [(place / max(1, len(values) - 1), value) for place, value in enumerate(values) if value is not None]


def _points(rows: Sequence[tuple[str, float, str]]) -> tuple[Figure, Axes]:
    """A row for each name: a point at its value, and the value as text at the right."""
    figure, axes = canvas(WIDE, 1.2 + 0.2 * max(1, len(rows)))
    for place, (_, value, figures) in enumerate(rows):
        axes.plot([value], [place], "o", color=TARGET, markersize=5)
        axes.text(1.02, place, figures, transform=axes.get_yaxis_transform(), fontsize=8, color=MUTED, va="center")
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    return figure, axes


_FIGURES: dict[str, Callable[[MethodData], Figure]] = {
    "loss-tokens": lambda found: loss_over(found, "tokens"),
    "loss-flops": lambda found: loss_over(found, "flops"),
    "time-to-loss": time_to_loss,
    "gaps": gaps,
    "ranks": ranks,
}
