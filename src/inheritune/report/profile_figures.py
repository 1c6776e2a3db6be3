"""Figures of a diagnosis, from the mapping that `profile.json` holds.

Each function takes the mapping and gives a matplotlib Figure; `save_figures` writes them all as SVG and PNG.
"""

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from inheritune.disk.files import whole_file
from inheritune.report.style import (
    CONTROL,
    INK,
    LAZY,
    MUTED,
    REFERENCE,
    TARGET,
    WIDE,
    figure_style,
    legend,
    rank_shades,
    undated,
)
from inheritune.words import harmless, plural

ProfileData = Mapping[str, Any]
COLOURS = "cividis"
CONTRAST_LOOKS: tuple[Any, ...] = (
    {"color": CONTROL, "ls": "--", "lw": 1.3},
    {"color": INK, "ls": ":", "lw": 1.3},
    {"color": REFERENCE, "ls": "-.", "lw": 1.1},
)
HEAD_MEASURES = {
    "rank": "mean rank k*",
    "mass": "mean mass m*",
    "first_key": "share of attention on the first key",
    "entropy": "entropy, nats",
    "output": "output norm over residual norm",
}


def rank_and_mass(
    profile: ProfileData, against: ProfileData | None = None, width: float = WIDE, caveat: bool = True
) -> Figure:
    """MaxRank and mass by layer with bands of one standard error, beside untrained weights and other lengths, or another model.

    `against` is that other model's profile. With `caveat`, a line below says what a rank hides.
    """
    figure, (ranks, masses) = _panels(2, width)
    for axes, key, label in (
        (ranks, "max_rank", "MaxRank\n(largest k* of the heads)"),
        (masses, "mass", "mass m*\n(mean of the heads)"),
    ):
        _band(axes, profile, key, TARGET, "o", _name(profile))
        if against is not None:
            _band(axes, against, key, REFERENCE, "s", _name(against))
        for contrast, look in zip(profile["contrasts"] if against is None else (), CONTRAST_LOOKS, strict=False):
            values = [np.nan if value is None else value for value in contrast[key]]
            axes.plot(values, label=_contrast_name(contrast), **look)
        _from_one(axes, label)
    _bands(profile, ranks, masses)
    lazy = [layer["index"] for layer in profile["layers"] if layer["lazy"]]
    if lazy:
        ranks.plot(lazy, [1] * len(lazy), "v", color=LAZY, ms=7, label="lazy: rank 1 in every head and sequence")
    ranks.fill_between([], [], color=MUTED, alpha=0.25, lw=0, label="band: one standard error")
    _finish(figure, ranks, masses)
    if caveat:
        masses.annotate(
            textwrap.fill(_hidden(profile), 110 if width == WIDE else 34), (0, 0), (0, -32), xycoords="axes fraction",
            textcoords="offset points", va="top", fontsize=8, color=INK,
        )  # fmt: skip
    return figure


def _hidden(profile: ProfileData) -> str:
    """What a rank hides."""
    share = f"{profile['threshold']:.0%} of a map's squared norm"
    return f"At rank 1 one direction holds {share}, but not all attention. Both measures grow with T."


def _bands(profile: ProfileData, *panels: Axes) -> None:
    """If some layers have a sliding window, shade a band behind those with full attention."""
    windows = {layer["window"] for layer in profile["layers"] if layer.get("window")}
    full = [layer["index"] for layer in profile["layers"] if layer["heads"] and not layer.get("window")]
    for axes in panels if windows else ():
        for place, index in enumerate(full):
            label = f"full attention (the others see {', '.join(map(str, sorted(windows)))} tokens)"
            axes.axvspan(index - 0.4, index + 0.4, color=MUTED, alpha=0.15, lw=0, label="_" if place else label)


def head_map(profile: ProfileData, measure: str = "rank", width: float = WIDE) -> Figure:
    """One measure of every head, layers across, heads up; layers without softmax attention stay empty."""
    heads = max((len(layer["heads"]) for layer in profile["layers"]), default=0)
    values = np.full((heads, len(profile["layers"])), np.nan)
    for layer in profile["layers"]:
        column = [np.nan if head[measure] is None else head[measure] for head in layer["heads"]]
        values[: len(column), layer["index"]] = column
    counted = measure in ("rank", "mass")
    with figure_style():
        figure = Figure(figsize=(width, 1.3 + 0.16 * min(max(heads, 6), 32)), layout="constrained")
        axes = figure.add_subplot()
        axes.grid(False)
        norm = rank_shades(values[np.isfinite(values)]) if counted else None
        corners = [np.arange(size + 1) - 0.5 for size in reversed(values.shape)]
        mesh = axes.pcolormesh(*corners, values, cmap=COLOURS, norm=norm)
        axes.set(xlabel="layer", ylabel="head")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        _whole_numbers(axes)
        figure.colorbar(mesh, ax=axes, label=HEAD_MEASURES[measure], pad=0.01, format="%g")
    return figure


def influence(profile: ProfileData, width: float = WIDE) -> Figure:
    """How much every block turns the hidden state and, if measured, how much the loss rises without it."""
    layers = profile["layers"]
    measured = [layer for layer in layers if layer["without_loss"] is not None]  # none where there was no time
    figure, panels = _panels(2 if measured else 1, width)
    turning, without = panels[0], panels[-1]
    turns, sure = ([layer[key] for layer in layers] for key in ("influence", "influence_se"))
    turning.errorbar(range(len(layers)), turns, sure, fmt="o", ms=4, color=TARGET, ecolor=MUTED, capsize=2)
    turning.set(ylabel="influence, 1 - cosine", yscale="log")
    _plain(turning.yaxis)
    if measured:
        whole = profile["curves"]["whole_loss"]
        rises = [layer["without_loss"] - whole for layer in measured]
        errors = [layer["without_rise_se"] for layer in measured]
        without.errorbar(
            [layer["index"] for layer in measured], rises, errors, fmt="o", ms=4, color=TARGET, ecolor=MUTED, capsize=2
        )
        without.axhline(0, color=INK, lw=0.8)
        if max(rises) > 1:
            without.set_yscale("symlog", linthresh=0.1)
            without.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        without.set_ylim(min(0, *rises) * 1.3 - 0.02, max(rises) * 1.3 + 0.02)
        without.set(ylabel=f"rise without it, nats\n({plural(profile['curves']['sequences'], 'sequence')})")
    _finish(figure, *panels)
    return figure


def inheritance_curve(profile: ProfileData, width: float = WIDE) -> Figure:
    """The loss of what is left, by the number of blocks left and the way of cutting."""
    curves, suggestion = profile["curves"], profile["suggestion"]
    with figure_style():
        figure = Figure(figsize=(width, 3.8), layout="constrained")
        axes = figure.add_subplot()
        ways = (
            ("first", "the first n blocks", REFERENCE, "s", "--"),
            ("run", "one run of blocks removed, the best of three", TARGET, "o", "-"),
            ("scattered", "the least missed blocks removed one by one", LAZY, "^", ":"),
        )
        for key, label, colour, marker, dashes in ways:
            left = [len(cut["blocks"]) for cut in curves[key]]
            losses = [cut["loss"] for cut in curves[key]]
            axes.plot(left, losses, color=colour, marker=marker, ms=4, ls=dashes, lw=1.4, label=label)
        axes.axhline(curves["whole_loss"], color=INK, lw=0.9, label="the whole model")
        if suggestion["depth"] is not None:
            axes.axvline(suggestion["depth"], color=MUTED, lw=0.9, ls=(0, (1, 2)), label="suggested depth")
        axes.set(xlabel="blocks left, none of them trained", ylabel="loss, nats per token", yscale="log")
        _plain(axes.yaxis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        legend(figure, columns=2)
    return figure


def maps_figure(maps: Mapping[str, Any]) -> Figure:
    """Mean attention maps (T, T) of chosen heads side by side, each under its name; square-root shading."""
    with figure_style():
        figure = Figure(figsize=(WIDE * (0.1 + 0.3 * len(maps)), 2.9), layout="constrained")
        panels = figure.subplots(1, len(maps), squeeze=False, sharey=True)[0]
        for axes, (name, values) in zip(panels, maps.items(), strict=True):
            axes.grid(False)
            axes.imshow(np.sqrt(np.asarray(values)), cmap=COLOURS, vmin=0, vmax=1)
            axes.set_title(name, fontsize=8.5)
            axes.set_xlabel("key")
        panels[0].set_ylabel("query")
        shades = ScalarMappable(Normalize(0, 1), COLOURS)
        bar = figure.colorbar(shades, ax=list(panels), label="attention", shrink=0.7, pad=0.01)
        bar.set_ticks([0, 0.25**0.5, 0.5**0.5, 1], labels=["0", "0.25", "0.5", "1"])
    return figure


def save_figures(
    profile: ProfileData, folder: Path, maps: Mapping[str, Any], against: ProfileData | None = None,
    text: str = "", mapped: int = 0,
) -> list[Path]:  # fmt: skip
    """Write every figure as SVG and PNG into `folder`; return the paths.

    A line above each names the model, the `text`, T and the number of sequences, which is `mapped` for the maps.
    """
    read = {"attention-maps": mapped}
    figures = {"rank-and-mass": rank_and_mass(profile), "influence": influence(profile)}
    if any(layer["heads"] for layer in profile["layers"]):
        figures["heads"] = head_map(profile)
    if profile["curves"]:
        figures["inheritance-curve"] = inheritance_curve(profile)
        read["inheritance-curve"] = profile["curves"]["sequences"]
    if maps:
        figures["attention-maps"] = maps_figure(maps)
    if against is not None:
        figures["against"] = rank_and_mass(profile, against)
    written = []
    for name, figure in figures.items():
        _head(figure, _name({**profile, "sequences": read.get(name, profile["sequences"])}), text)
        for kind in ("svg", "png"):
            written.append(folder / f"{name}.{kind}")
            _write(figure, written[-1])
    return written


def png(figure: Figure) -> bytes:
    """The figure as a PNG image."""
    buffer = io.BytesIO()
    with figure_style():
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _head(figure: Figure, name: str, text: str) -> None:
    """Say above a figure what was measured, so that it can be shown alone."""
    source = harmless(Path(text).name)
    with figure_style():
        lines = textwrap.fill(f"{name} on {source}" if source else name, int(15 * figure.get_figwidth()))
        figure.suptitle(lines, x=0.01, ha="left", fontsize=8, color=MUTED)


def _write(figure: Figure, path: Path) -> None:
    kind = path.suffix[1:]
    with figure_style(), undated(), whole_file(path) as file:
        figure.savefig(file, format=kind, dpi=180, metadata={"Date": None} if kind == "svg" else None)


def _panels(rows: int, width: float) -> tuple[Figure, Sequence[Axes]]:
    with figure_style():
        figure = Figure(figsize=(width, 2.2 * rows + 0.8), layout="constrained")
        return figure, figure.subplots(rows, 1, sharex=True, squeeze=False)[:, 0].tolist()


def _band(axes: Axes, profile: ProfileData, key: str, colour: str, marker: str, label: str) -> None:
    layers = [layer for layer in profile["layers"] if layer[key] is not None]
    at = [layer["index"] for layer in layers]
    mean = np.array([layer[key] for layer in layers])
    error = np.array([layer[f"{key}_se"] for layer in layers])
    axes.fill_between(at, np.maximum(mean - error, 1), mean + error, color=colour, alpha=0.25, lw=0)
    axes.plot(at, mean, color=colour, marker=marker, ms=4, lw=1.4, label=label)


def _from_one(axes: Axes, label: str) -> None:
    axes.set(ylabel=label, yscale="log")
    axes.set_ylim(0.9, axes.get_ylim()[1] * 1.1)
    _plain(axes.yaxis)


def _plain(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers, at 1, 2 and 5 of each decade."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _contrast_name(contrast: Mapping[str, Any]) -> str:
    weights = "untrained weights, " if contrast["name"] == "untrained" else ""
    return f"{weights}T = {contrast['length']}, {contrast['sequences']} sequences"


def _finish(figure: Figure, *panels: Axes) -> None:
    """Label the layers below the last panel, and add a legend of what the first panel names."""
    panels[-1].set_xlabel("layer")
    _whole_numbers(panels[-1])
    for line in (line for axes in panels[1:] for line in axes.get_lines()):
        line.set_label("_")
    if panels[0].get_legend_handles_labels()[1]:
        with figure_style():
            legend(figure, columns=2)


def _whole_numbers(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name(profile: ProfileData) -> str:
    return f"{harmless(Path(profile['model']).name)} (T = {profile['longest']}, {profile['sequences']} sequences)"
