"""The heads of a diagnosis on the page: readers choose a measure, point at a head or follow it to its numbers, without a script."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from inheritune.report.folder import RowData
from inheritune.report.profile_figures import HEAD_MEASURES
from inheritune.words import plural

MOST_HEADS = 1024  # with more the page would grow to megabytes, so a figure replaces them
_COUNTED = ("rank", "mass")
_LEAST_SHADE = 0.06


class Cell(NamedTuple):
    """A head in the chart of a measure: its place, how dark it is (0 to 1), and the text that is shown when it is pointed at."""

    layer: int
    head: int
    shade: float
    said: str
    lazy: bool


class Chart(NamedTuple):
    """All heads by one measure."""

    measure: str
    label: str
    cells: list[Cell]


class LayerTable(NamedTuple):
    """A layer in a sentence, and its heads with a number for each measure."""

    layer: int
    said: str
    heads: list[list[str]]


class HeadsShown(NamedTuple):
    """What the page shows of a profile's heads: a chart per measure, a table per layer, and how many layers across and heads down."""

    charts: list[Chart]
    layers: list[LayerTable]
    across: int
    down: int


def heads_shown(layers: Sequence[RowData], lazy: Mapping[str, Sequence[int]]) -> HeadsShown | None:
    """The heads of a profile's `layers`, those in `lazy` framed; None if there are no heads, or more than a page can hold."""
    held = [layer.get("heads") or [] for layer in layers]
    every = [head for heads in held for head in heads]
    measures = [name for name in HEAD_MEASURES if all(_is_number(head.get(name)) for head in every)]
    if not 0 < len(every) <= MOST_HEADS or not measures:
        return None
    charts = [Chart(name, HEAD_MEASURES[name], list(_cells(held, name, lazy))) for name in measures]
    tables = [
        LayerTable(layer, _layer_told(layer, heads, lazy), [[_told(head[name]) for name in measures] for head in heads])
        for layer, heads in enumerate(held)
        if heads
    ]
    return HeadsShown(charts, tables, len(layers), max(map(len, held)))


def _cells(held: Sequence[Sequence[RowData]], measure: str, lazy: Mapping[str, Sequence[int]]) -> Iterator[Cell]:
    """Yield each head, darker for a higher value; ranks and masses by their logarithms."""
    scale = math.log if measure in _COUNTED else float
    values = [scale(head[measure]) for heads in held for head in heads]
    low, wide = min(values), max(values) - min(values) or 1.0
    for layer, heads in enumerate(held):
        for at, head in enumerate(heads):
            shade = _LEAST_SHADE + (1 - _LEAST_SHADE) * (scale(head[measure]) - low) / wide
            said = f"layer {layer}, head {at}: {_told(head[measure])}"
            yield Cell(layer, at, shade, said, at in lazy.get(str(layer), ()))


def _layer_told(layer: int, heads: Sequence[RowData], lazy: Mapping[str, Sequence[int]]) -> str:
    count = len(lazy.get(str(layer), ()))
    return f"Layer {layer}: {plural(len(heads), 'head')}, {count} of them lazy"


def _told(value: float) -> str:
    return f"{value:.3g}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
