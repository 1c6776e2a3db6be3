"""Which layers and heads of real models have collapsed, on several kinds of text and at two lengths, against fresh weights.

    python experiments/collapse.py MODEL [MODEL …] --text books=books.jsonl --text wiki=wiki.txt [--length 100 …] --out DIR

Every profile is kept in DIR, so that the same command continues after a stop. At the end it prints the tables and draws MaxRank over
depth in DIR/collapse.png. The rule by which it judges (paper, section 2 and figure 1), written before anything was measured:

- *heads collapse* where at least 5% of a model's heads have a mean k* of at most 1.5 on every text, and no layer of fresh weights has
  a MaxRank as low;
- *deep ones do* where the second half of the layers has at least twice as many of those heads as the first half;
- *whole layers do* where at least one layer has a MaxRank of at most 1.5 on every text.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from inheritune.report.profile import Profile
from inheritune.report.style import CONTROL, LAZY, REFERENCE, TARGET, figure_style, legend

COLLAPSED, FEW = 1.5, 0.05
LENGTHS = {100: 32, 1024: 4}  # tokens of a sequence, and how many sequences
TICKS = (1, 2, 5, 10, 20, 50, 100)
COLORS = (TARGET, REFERENCE, LAZY)
Head = tuple[int, int]
Profiles = dict[str, Profile]


def measured(model: Path, text: str, length: int, out: Path) -> Profile:
    """The profile of a model on one text, with the ranks of fresh weights; measured once and then read back."""
    if not (out / "profile.json").exists():
        command = [
            sys.executable, "-m", "inheritune", "diagnose", str(model), "--text", text, "--length", str(length),
            "--sequences", str(LENGTHS[length]), "--curve-sequences", "0", "--other-length", str(length), "--minutes", "20",
            "--out", str(out),
        ]  # fmt: skip
        print(f"$ {' '.join(command)}", flush=True)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return Profile.load(out / "profile.json")


def collapsed(profile: Profile) -> set[Head]:
    """The heads (layer, head) whose mean k* is at most 1.5."""
    return {
        (layer.index, i) for layer in profile.layers for i, head in enumerate(layer.heads) if head.rank <= COLLAPSED
    }


def low_layers(profile: Profile) -> set[int]:
    """The layers whose MaxRank is at most 1.5."""
    return {layer.index for layer in profile.layers if layer.max_rank is not None and layer.max_rank <= COLLAPSED}


def fresh(profile: Profile) -> list[float | None]:
    """MaxRank of each layer with fresh weights."""
    return next(contrast.max_rank for contrast in profile.contrasts if contrast.name == "untrained")


def rows(profiles: Profiles) -> list[str]:
    """A row of the table for each text, and one for what holds on every text."""
    told = []
    for name, profile in profiles.items():
        least = min(rank for rank in fresh(profile) if rank is not None)
        told.append(_row(name, f"{profile.loss:.2f}", profile, collapsed(profile), low_layers(profile), f"{least:.1f}"))
    every = set.intersection(*map(collapsed, profiles.values()))
    layers = set.intersection(*map(low_layers, profiles.values()))
    return [*told, _row("on every text", "", next(iter(profiles.values())), every, layers, "")]


def _row(name: str, loss: str, profile: Profile, heads: set[Head], layers: set[int], least: str) -> str:
    of_all = sum(len(layer.heads) for layer in profile.layers)
    deep = sum(layer >= profile.depth / 2 for layer, _ in heads)
    listed = ", ".join(map(str, sorted(layers))) or "none"
    return f"| {name} | {loss} | {len(heads)} of {of_all} ({100 * len(heads) / of_all:.0f}%) | {len(heads) - deep} / {deep} | {listed} | {least} |"


def verdict(profiles: Profiles) -> str:
    """The three judgements of the rule."""
    one = next(iter(profiles.values()))
    heads = set.intersection(*map(collapsed, profiles.values()))
    least = min(rank for profile in profiles.values() for rank in fresh(profile) if rank is not None)
    share = len(heads) / sum(len(layer.heads) for layer in one.layers)
    deep = sum(layer >= one.depth / 2 for layer, _ in heads)
    judged = {
        "heads collapse": share >= FEW and least > COLLAPSED,
        "deep ones do": bool(heads) and deep >= 2 * (len(heads) - deep),
        "whole layers do": bool(set.intersection(*map(low_layers, profiles.values()))),
    }
    return "; ".join(f"{name}: **{'yes' if holds else 'no'}**" for name, holds in judged.items())


def figure(found: Mapping[str, Mapping[int, Profiles]]) -> Figure:
    """MaxRank over depth: a column of panels for each model, a row for each length."""
    with figure_style():
        height = max(map(len, found.values()))
        drawn = Figure(figsize=(3.7 * len(found), 0.6 + 2.4 * height), layout="constrained")
        panels = drawn.subplots(height, len(found), squeeze=False, sharex="col", sharey=True)
        for column, (model, lengths) in enumerate(found.items()):
            for row, (length, profiles) in enumerate(lengths.items()):
                axes, first = panels[row][column], row == column == 0
                for color, (name, profile) in zip(COLORS, profiles.items(), strict=False):
                    ranks = [layer.max_rank for layer in profile.layers]
                    axes.plot(ranks, color=color, marker="o", markersize=2.5, label=name if first else None)
                one = next(iter(profiles.values()))
                axes.plot(fresh(one), color=CONTROL, linestyle=":", label="fresh weights" if first else None)
                axes.set_yscale("log")
                axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
                axes.minorticks_off()
                axes.set_ylim(0.9, 130)
                axes.set_title(f"{model}, T = {length:,}", fontsize=9)
                axes.set_ylabel("MaxRank" if column == 0 else "")
                axes.set_xlabel("layer" if row == height - 1 else "")
        legend(drawn, columns=4)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, help="model folders or GGUF files")
    parser.add_argument("--text", action="append", required=True, help="NAME=PATH, a kind of text")
    parser.add_argument(
        "--length", action="append", type=int, choices=LENGTHS, help="tokens of a sequence; without it, both"
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    given = parser.parse_args()
    texts = dict(one.split("=", 1) for one in given.text)
    found: dict[str, dict[int, Profiles]] = {}
    for model in given.models:
        of_model = given.out / model.stem
        found[model.stem] = {
            length: {name: measured(model, text, length, of_model / f"{name}-{length}") for name, text in texts.items()}
            for length in given.length or LENGTHS
        }
    for name, lengths in found.items():
        for length, profiles in lengths.items():
            print(f"\n**{name}, T = {length:,}**, {LENGTHS[length]} sequences of each text\n")
            print("| text | loss | heads with mean k* up to 1.5 | in the first half of the layers / in the second | layers with MaxRank up to 1.5 | least MaxRank of fresh weights |")  # fmt: skip
            print("|---|---|---|---|---|---|")
            print("\n".join(rows(profiles)))
            print(f"\n{verdict(profiles)}")
    figure(found).savefig(given.out / "collapse.png", dpi=150)


if __name__ == "__main__":
    main()
