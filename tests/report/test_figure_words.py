"""What every figure of the page says: its axes, its lines by name, its legend and its words, as they were looked at.

Where one is meant to change: `python tests/report/test_figure_words.py` writes the list anew, and a diff shows what did.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

sys.path.append(str(Path(__file__).parents[1]))
from made_up_run import control_data, result_data, write_controls, write_run
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FuncFormatter

from inheritune.report import pictures, profile_figures
from inheritune.report.compare_figures import _FIGURES
from inheritune.report.page import write_report
from inheritune.report.rivals_figure import PackedPoint, rivals_figure
from inheritune.report.style import NARROW, WIDE
from inheritune.report.watch_figure import watch_figure

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "figure_words.txt"
PROFILE = json.loads((TESTS.parent / "docs/results/diagnosis-smollm2/profile.json").read_text())
GLANCES = [
    {"round": 1, "depth": 2, "tokens": at * 1000, "max_rank": [1.0 + at, None], "lazy": [0] if at == 2 else []}
    for at in range(3)
]
METHODS = ("published", "random", "stacking", "influence", "random-total")
COMPARED = {
    "rows": [
        {
            "method": name,
            "gap": {"mean": 0.1 + at / 50, "low": at / 50, "high": 0.2 + at / 50},
            "cost": {"prepared_flops": 1e9 * at},
            "curve": [{"tokens": 1e3 * step, "flops": 1e12 * step, "val_loss": 4 - step / 9 - at / 50} for step in range(1, 4)],
            "max_ranks": [8.0, 4.0, None, 1.0 + at],
            "flops_to_random": None if name == "stacking" else 1e12 / (1 + at),
            "tokens_to_random": None if name == "stacking" else 2e3,
        }
        for at, name in enumerate(METHODS)
    ],
    "reference_loss": 3.5,
    "reference_ranks": [9.0, 7.0, 3.0, 2.0, 1.0],
    "margin": 0.01,
}  # fmt: skip
PACKED = [
    PackedPoint(bits, memory, 4 - memory / 4e8, memory < 1.5e8) for bits, memory in (("q4", 10**8), ("q8", 2 * 10**8))
]
OTHERS: dict[str, Callable[[float], Figure]] = {
    "watch": lambda width: watch_figure(GLANCES, {2: [0, 3]}, width),
    "rank and mass": lambda width: profile_figures.rank_and_mass(PROFILE, width=width),
    "rank and mass against": lambda width: profile_figures.rank_and_mass(PROFILE, PROFILE, width),
    "heads": lambda width: profile_figures.head_map(PROFILE, width=width),
    "influence": lambda width: profile_figures.influence(PROFILE, width),
    "curve": lambda width: profile_figures.inheritance_curve(PROFILE, width),
    "rivals": lambda width: rivals_figure(PACKED, 3.5, "nats per token", width),
    **{f"compared {name}": lambda _, draw=draw: draw(COMPARED) for name, draw in _FIGURES.items()},
}


def told(folder: Path) -> str:
    """Figure by figure, on a screen and on a phone."""
    run = write_run(folder, result_data() | {"controls": control_data()})
    write_controls(folder)
    lines: list[str] = []

    def drawn(name: str, draw: Callable[[float], Figure]) -> Markup:
        for size, width in (("wide", WIDE), ("narrow", NARROW)):
            lines.extend(f"{name} {size}: {word}" for word in _words(draw(width)))
        return Markup()

    with patch.object(pictures, "drawn_twice", drawn):
        write_report(run)
    for name, draw in OTHERS.items():
        drawn(name, draw)
    return "".join(f"{line}\n" for line in lines)


def _words(figure: Figure) -> list[str]:
    found = [f"legend {text.get_text()!r}" for legend in figure.legends for text in legend.get_texts()]
    found += [f"for all panels {text!r}" for text in (figure.get_supxlabel(), figure.get_supylabel()) if text]
    for number, axes in enumerate(figure.axes, 1):
        found.append(f"panel {number}: {axes.get_xlabel()!r} by {axes.get_ylabel()!r}, {axes.get_title()!r}")
        found += [f"panel {number}: line {line.get_label()!r}" for line in axes.lines if line.get_label()[:1] != "_"]
        found += [f"panel {number}: words {text.get_text()!r}" for text in axes.texts]
        found += [f"panel {number}: {axis} ticks {ticks}" for axis, ticks in _named_ticks(axes)]
        found.append(
            f"panel {number}: {len(axes.lines)} lines, {len(axes.patches)} patches, {len(axes.collections)} others"
        )
    return found


def _named_ticks(axes: Axes) -> Iterator[tuple[str, list[str]]]:
    """Those that a figure names itself; others are matplotlib's."""
    for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter):
            yield name, [label.get_text() for label in axis.get_ticklabels()]


def test_no_word_of_a_figure_changes_unseen(tmp_path: Path) -> None:
    assert told(tmp_path / "run") == GOLDEN.read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(told(Path(folder) / "run"))
