"""What every figure of the page says: its axes, its lines by name, its legend and its words, as they were looked at.

Where one is meant to change: `python tests/report/test_figure_words.py` writes the list anew, and a diff shows what did.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

sys.path.append(str(Path(__file__).parents[1]))
from made_up_run import control_data, result_data, write_controls, write_run
from markupsafe import Markup
from matplotlib.figure import Figure

from inheritune.report import pictures, profile_figures
from inheritune.report.page import write_report
from inheritune.report.style import NARROW, WIDE
from inheritune.report.watch_figure import watch_figure

TESTS = Path(__file__).parents[1]
GOLDEN = TESTS / "golden" / "figure_words.txt"
PROFILE = json.loads((TESTS.parent / "docs/results/diagnosis-smollm2/profile.json").read_text())
GLANCES = [
    {"round": 1, "depth": 2, "tokens": at * 1000, "max_rank": [1.0 + at, None], "lazy": [0] if at == 2 else []}
    for at in range(3)
]
OTHERS: dict[str, Callable[[float], Figure]] = {
    "watch": lambda width: watch_figure(GLANCES, {2: [0, 3]}, width),
    "rank and mass": lambda width: profile_figures.rank_and_mass(PROFILE, width=width),
    "rank and mass against": lambda width: profile_figures.rank_and_mass(PROFILE, PROFILE, width),
    "heads": lambda width: profile_figures.head_map(PROFILE, width=width),
    "influence": lambda width: profile_figures.influence(PROFILE, width),
    "curve": lambda width: profile_figures.inheritance_curve(PROFILE, width),
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
    for number, axes in enumerate(figure.axes, 1):
        found.append(f"panel {number}: {axes.get_xlabel()!r} by {axes.get_ylabel()!r}, {axes.get_title()!r}")
        found += [f"panel {number}: line {line.get_label()!r}" for line in axes.lines if line.get_label()[:1] != "_"]
        found += [f"panel {number}: words {text.get_text()!r}" for text in axes.texts]
        found.append(
            f"panel {number}: {len(axes.lines)} lines, {len(axes.patches)} patches, {len(axes.collections)} others"
        )
    return found


def test_no_word_of_a_figure_changes_unseen(tmp_path: Path) -> None:
    assert told(tmp_path / "run") == GOLDEN.read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GOLDEN.write_text(told(Path(folder) / "run"))
