"""The figures of docs/concepts.md that no run draws: made from recorded rounds, and from the tables of docs/results.

    python benchmarks/concept_figures.py

`floor.png`: how much rounds left of what their cuts lost, over their training tokens (the rounds of `left.py`, with its law).
`verdicts.png`: the intervals of docs/results/compute-to-match.md, the first seed of each strategy, depth and verdict.
"""

import re
from pathlib import Path

import numpy as np
from left import ROUNDS
from matplotlib.figure import Figure

from inheritune.evidence.left import left_after
from inheritune.report.figures import GapRow, gap_figure
from inheritune.report.style import GRID, INK, LAZY, MUTED, REFERENCE, TARGET, WIDE, canvas, figure_style, legend

RESULTS = Path(__file__).parents[1] / "docs" / "results"
MARGIN = 0.01
_ROW = re.compile(r"([+-]\d\.\d+) \[([+-]\d\.\d+), ([+-]\d\.\d+)\] \| (\w[\w ]+?) \|$")


def floor() -> Figure:
    """The gap over training tokens per parameter: a mark for each recorded round, and the law for cuts of three losses."""
    with figure_style():
        figure, axes = canvas(WIDE, 3.6)
        bands = (
            ("loses up to 0.1 untrained", 0.0, 0.1, TARGET, "o", 0.07),
            ("0.1 to 0.3", 0.1, 0.3, REFERENCE, "s", 0.18),
        )
        for label, low, high, colour, mark, lost in (*bands, ("more than 0.3", 0.3, 9.0, LAZY, "^", 0.6)):
            rows = [row for row in ROUNDS if low < row.lost <= high]
            at = [row.tokens / row.parameters for row in rows]
            axes.plot(at, [row.gap for row in rows], mark, color=colour, ms=6, label=label)
            tokens = np.geomspace(5e-5, 20, 200)
            axes.plot(tokens, [left_after(lost, each, 1.0).mean for each in tokens], color=colour, lw=1.2, alpha=0.6)
        axes.axhline(MARGIN, color=INK, lw=1)
        axes.text(6e-5, MARGIN * 1.12, "the margin, 0.01", color=MUTED, fontsize=8.5)
        axes.set(xscale="log", yscale="symlog", xlabel="training tokens for each parameter of the reference")
        axes.set_yscale("symlog", linthresh=MARGIN)
        axes.set_ylim(-0.006, 1)
        axes.set_yticks([0, 0.01, 0.03, 0.1, 0.3, 1], ["0", "0.01", "0.03", "0.1", "0.3", "1"])
        axes.set_ylabel("gap after the round, nats per token")
        axes.minorticks_off()
        axes.grid(color=GRID)
        legend(figure, columns=3)
    return figure


def verdicts() -> Figure:
    """The intervals in the tables of docs/results/compute-to-match.md."""
    rows: dict[str, GapRow] = {}
    for line in (RESULTS / "compute-to-match.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if (found := _ROW.search(line)) and len(cells) == 9:
            label = f"{cells[0]}, {cells[2]} blocks: {found[4]}"
            rows.setdefault(label, GapRow(label, *map(float, found.groups()[:3])))
    return gap_figure(list(rows.values()), MARGIN)


if __name__ == "__main__":
    for name, figure in (("floor", floor()), ("verdicts", verdicts())):
        figure.savefig(RESULTS / f"{name}.png", dpi=150)
