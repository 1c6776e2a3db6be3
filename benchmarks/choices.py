"""Which cheap measure tells, before training, how a choice of blocks will do after it?

    python benchmarks/choices.py --out runs/choices [--depth 20] [--random 8] [--tokens 60000] [--set key=value]

Briefly trains cuts of one depth, each in a run folder (the same command continues after a stop): those of the five criteria, and random
ones that keep the first and last block. Prints each cut's measures and its gap after training, then the rank correlation (Spearman) of
each measure with that gap over the cuts. The measures are the zero-step loss without and with the heal (on text that neither the fit
nor the criteria saw), and the sums of influence and of angular distance over the blocks left out. About six minutes on two quiet cores.
"""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from inheritune import diagnose
from inheritune.choosing import CRITERIA
from inheritune.config.loading import load_recipe, parse_setting
from inheritune.config.recipes import RunRecipe
from inheritune.models.reference import load_reference
from inheritune.report.profile import Profile
from inheritune.runs.bench import Bench
from inheritune.runs.folder import close_folder, open_folder
from inheritune.runs.run import run

MEASURES = ("zero-step", "healed zero-step", "influence", "angular")


def candidates(given: argparse.Namespace, settings: dict[str, Any]) -> tuple[Profile, dict[str, list[int]]]:
    """The reference's profile, and the cuts by name, without duplicates."""
    recipe = load_recipe(RunRecipe, given.recipe, settings)
    folder = open_folder(given.out / "choices", recipe)
    bench = Bench(recipe, folder, load_reference(recipe.reference, recipe.revision))
    profile = diagnose(bench.model, bench.sequences(recipe.diagnosis.sequences, recipe.diagnosis.length))
    close_folder(folder)
    tokens_BT = bench.sequences(recipe.choice.sequences, recipe.data.sequence_length)
    cuts = {
        name: criterion(bench.model, tokens_BT, profile).blocks(given.depth) for name, criterion in CRITERIA.items()
    }
    drawn, middle = random.Random(0), range(1, profile.depth - 1)
    for number in range(given.random):
        cuts[f"random {number}"] = [0, *sorted(drawn.sample(middle, given.depth - 2)), profile.depth - 1]
    return profile, {
        name: cut for name, cut in cuts.items() if cut not in list(cuts.values())[: list(cuts).index(name)]
    }


def measure(
    given: argparse.Namespace, settings: dict[str, Any], profile: Profile, name: str, cut: list[int]
) -> list[float]:
    """The cheap measures of one cut, and its gap after training."""
    place = given.out / name.replace(" ", "-")
    if not (place / "result.json").exists():
        alone = {"choice.method": "first", "choice.blocks": ",".join(map(str, cut)), "choice.heal": True}
        one = {"growth.start": len(cut), "growth.max_depth": len(cut), "limits.max_rounds": 1, "growth.literal": True}
        run(given.recipe, out=str(place), **{**settings, "training.tokens": given.tokens, **alone, **one})
    start = json.loads(next(place.glob("rounds/01-*/start.json")).read_text(encoding="utf-8"))
    ended = json.loads((place / "result.json").read_text(encoding="utf-8"))["rounds"][0]
    gone = [block for block in range(profile.depth) if block not in cut]
    return [
        start["loss_before"], start["loss_after"], sum(profile.layers[block].influence for block in gone),
        sum(profile.angular[0][block] for block in gone), ended["gap"]["mean"],
    ]  # fmt: skip


def spearman(one: np.ndarray, two: np.ndarray) -> float:
    """Spearman's rank correlation."""
    ranks = [np.argsort(np.argsort(row)) for row in (one, two)]
    return float(np.corrcoef(*ranks)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--random", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--set", action="append", default=["training.warmup_tokens=8192", "training.peak_lr=1e-3"])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = dict(map(parse_setting, given.set))
    profile, cuts = candidates(given, settings)
    print(f"| cut to {given.depth} | left out | {' | '.join(MEASURES)} | gap after {given.tokens:,} tokens |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name, cut in cuts.items():
        rows.append(measure(given, settings, profile, name, cut))
        gone = ",".join(str(block) for block in range(profile.depth) if block not in cut)
        print(f"| {name} | {gone} | {' | '.join(f'{value:.4f}' for value in rows[-1])} |", flush=True)
    table = np.array(rows)
    found = " | ".join(f"{spearman(table[:, column], table[:, -1]):+.2f}" for column in range(len(MEASURES)))
    print(f"| **rank correlation** | | {found} | |")


if __name__ == "__main__":
    main()
