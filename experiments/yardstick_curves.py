"""The gap over the FLOPs spent, for each strategy: the figure of compute_to_match.py, drawn from its folder.

    python experiments/yardstick_curves.py runs/yardstick --out curves.png

A line for each seed and strategy; a round of more blocks starts where the last one ended. FLOPs are training and validation.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inheritune.report.style import CONTROL, INK, LAZY, MUTED, REFERENCE, TARGET, WIDE, figure_style

LOOKS = {
    "ours": (TARGET, "-"), "literal-quarter-rounds": (INK, (0, (6, 2))), "one-shot": (LAZY, (0, (1, 1.2))),
    "late": ("#1d6f5c", (0, (6, 1.5, 1, 1.5))), "random": (CONTROL, (0, (3, 1, 1, 1))), "reference": (REFERENCE, (0, (5, 2))),
}  # fmt: skip
NAMES = {"literal-quarter-rounds": "literal", "reference": "whole (control)"}
Point = tuple[float, float]


def rounds(folder: Path) -> list[list[Point]]:
    """(FLOPs, gap) of each validation, a list for each round."""
    found: dict[tuple[str, int], list[Point]] = {}
    validated = 0.0
    for place in sorted(folder.rglob("metrics.jsonl")):
        for row in map(json.loads, place.read_text(encoding="utf-8").splitlines()):
            if row["kind"] == "validation":
                validated += row["cost"]["flops"]
                found.setdefault((str(place), row["round"]), []).append((row["flops"] + validated, row["gap"]["mean"]))
    return list(found.values())


def draw(folder: Path, margin: float) -> Figure:
    """Every strategy that `LOOKS` names, of all seeds, in one panel; the gap is logarithmic above the margin and linear below it."""
    figure = Figure(figsize=(WIDE, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.axhspan(-1, margin, color=MUTED, alpha=0.1, linewidth=0)
    for strategy, (colour, dashes) in LOOKS.items():
        lines = [line for place in sorted(folder.glob(f"seed-*/{strategy}")) for line in rounds(place)]
        for line in lines:
            axes.plot(*zip(*line, strict=True), color=colour, linestyle=dashes, linewidth=1.3, alpha=0.85)
        if lines:
            axes.plot([], [], color=colour, linestyle=dashes, label=NAMES.get(strategy, strategy))
    axes.set_yscale("symlog", linthresh=margin, linscale=0.6)
    axes.set_yticks(
        [-0.01, 0, margin, 0.03, 0.1, 0.3, 1, 3], ["-0.01", "0", f"{margin:g}", "0.03", "0.1", "0.3", "1", "3"]
    )
    axes.minorticks_off()
    axes.set_ylim(-2 * margin, 2 * max(float(np.max(line.get_ydata(), initial=margin)) for line in axes.lines))
    axes.set_xlabel("FLOPs of training and validation")
    axes.set_ylabel("gap to the reference, nats per token")
    axes.legend(frameon=False, ncols=3, loc="upper right")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the --out of compute_to_match.py")
    parser.add_argument("--margin", type=float, default=0.01)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    with figure_style():
        draw(given.folder, given.margin).savefig(given.out, dpi=150)


if __name__ == "__main__":
    main()
