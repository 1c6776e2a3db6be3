"""Quality over memory: a smaller model in 16, 8 and 4 bits beside the larger one in 8 and 4."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from inheritune.report.figures import DASHED
from inheritune.report.style import REFERENCE, TARGET, WIDE, canvas, figure_style, legend, line


@dataclass(frozen=True)
class PackedPoint:
    """A packed model: its bits, its memory in bytes, its loss, and whether it is the smaller of the two models."""

    bits: str
    memory: int
    loss: float
    smaller: bool


def rivals_figure(points: Sequence[PackedPoint], reference_loss: float, unit: str, width: float = WIDE) -> Figure:
    """Loss in `unit` over memory; the horizontal line is the reference as it was, with its weights unpacked."""
    with figure_style():
        figure, axes = canvas(width, 3.3)
        axes.axhline(
            reference_loss,
            color=REFERENCE,
            linewidth=1,
            linestyle=DASHED,
            label=f"reference as it is ({reference_loss:.3f})",
        )
        for smaller, name, colour, mark in ((False, "reference", REFERENCE, "s"), (True, "model", TARGET, "o")):
            own = sorted((point for point in points if point.smaller == smaller), key=lambda point: point.memory)
            line(
                axes, [(point.memory / 1e6, point.loss) for point in own], f"{name}, packed", color=colour, marker=mark
            )
            for point in own:
                at = (point.memory / 1e6, point.loss)
                axes.annotate(point.bits, at, xytext=(5, 5), textcoords="offset points", color=colour, fontsize=8.5)
        axes.set_xlim(0, 1.12 * max(point.memory for point in points) / 1e6)
        axes.margins(y=0.15)
        axes.set_xlabel("memory, MB: weights, and keys and values of a window")
        axes.set_ylabel(f"loss, {unit}")
        legend(figure, columns=3)
    return figure
