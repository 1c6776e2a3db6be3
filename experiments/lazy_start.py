"""Whether lazy layers are a worse start than others (paper, section 4), on a real model whose lazy heads were measured.

    python experiments/lazy_start.py RECIPE --profile PROFILE.json [--profile …] [--blocks 6] [--seeds 0 1] --out DIR

RECIPE is a recipe of `inheritune run` (docs/config.md): its reference, text, validation and training are used. The profiles say where
the lazy heads are. Each start is a target of the same number of blocks, with everything outside them inherited, trained on the same
batches:

- *lazy*: the blocks with the most heads whose mean k* is at most 1.5 on every profile;
- *near*: for each of these, deepest last, the nearest block that is not taken and whose share of such heads is below one in four;
- *random*: blocks of random weights (three draws where there are three seeds);
- *first*: the first blocks, as the paper inherits.

The rule, written before anything was trained: let g be the loss that *near* gains on *random*, paired by source. Lazy layers are *no
better than random* where they gain less than a quarter of g with 95% confidence, *as good as others* where they gain more than three
quarters of it; in between, it cannot be told. The claim holds in the first case. The lazy heads of each target are counted before and
after training.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.diagnosis.diagnose import diagnose
from inheritune.disk.files import write_text
from inheritune.evidence.gap import Gap
from inheritune.models.reference import load_reference
from inheritune.progress import Progress
from inheritune.records.rows import METRICS
from inheritune.records.stages import LOSSES, Position, read_losses
from inheritune.report.profile import Profile
from inheritune.runs.bench import Bench
from inheritune.runs.folder import close_folder, open_folder
from inheritune.runs.rounds import RoundFolder
from inheritune.runtime.device import make_repeatable
from inheritune.surgery.in_memory import inherit
from inheritune.training.metrics import Metrics

FEW, LENGTH, SEQUENCES = 0.25, 100, 32
STARTS = ("lazy", "near", "random", "first")
Blocks = list[int]


def lazy_heads(profiles: Sequence[Profile]) -> list[int]:
    """For each layer, how many heads have a mean k* of at most 1.5 on every profile."""
    found = [[set(profile.lazy_heads.get(layer.index, [])) for layer in profile.layers] for profile in profiles]
    return [len(set.intersection(*of_layer)) for of_layer in zip(*found, strict=True)]


def starts(lazy: Sequence[int], heads: int, count: int) -> dict[str, Blocks]:
    """The blocks of each start, by the lazy heads of each layer."""
    laziest = sorted(sorted(range(len(lazy)), key=lambda layer: (-lazy[layer], layer))[:count])
    free = [layer for layer, own in enumerate(lazy) if own < FEW * heads and layer not in laziest]
    near: Blocks = []
    for layer in laziest:
        near.append(min((other for other in free if other not in near), key=lambda other: (abs(other - layer), other)))
    return {"lazy": laziest, "near": sorted(near), "random": laziest, "first": list(range(count))}


def measured(model: PreTrainedModel, bench: Bench) -> dict[str, Any]:
    """Lazy heads and MaxRank of a target by layer, on the run's own text."""
    tokens_NT = bench.sequences(SEQUENCES, LENGTH)
    profile = diagnose(model, tokens_NT, unasked=bench.begin.unasked, curve_sequences=0, untrained=False)
    return {
        "lazy_heads": lazy_heads([profile]),
        "max_rank": [layer.max_rank for layer in profile.layers],
    }


def trained(name: str, blocks: Blocks, bench: Bench, folder: Path) -> dict[str, Any]:
    """Train one start and compare it with the reference; its row is kept in `row.json` of its folder."""
    place = folder / "cells" / f"{name}-{bench.recipe.seed}"
    if not (place / "row.json").exists():
        place.mkdir(parents=True, exist_ok=True)
        make_repeatable(bench.recipe.seed)
        parts = () if name == "random" else None
        model = inherit(bench.model, blocks, parts=parts, seed=bench.recipe.seed)
        before = measured(model, bench)
        round_ = RoundFolder(
            bench, bench.progress, place, Metrics(place / METRICS), number=1, depth=len(blocks),
            training=bench.recipe.training, before=Position(), objective=bench.recipe.objective,
        )  # fmt: skip
        end = round_.train(model)
        row = {"start": name, "seed": bench.recipe.seed, "blocks": blocks, "loss": end.val_loss, "gap": asdict(end.gap)}
        write_text(place / "row.json", json.dumps(row | {"before": before, "after": measured(model, bench)}, indent=1))
    found: dict[str, Any] = json.loads((place / "row.json").read_text())
    return found | {"losses": read_losses(place / LOSSES)}


def judged(rows: Mapping[str, list[dict[str, Any]]], bench: Bench) -> str:
    """Apply the rule: what the lazy start gains on random weights, against what its neighbours gain; means over seeds, paired by source."""
    losses = {name: np.mean([row["losses"] for row in of_start], axis=0) for name, of_start in rows.items()}

    def beyond(name: str, other: np.ndarray) -> Gap:
        return bench.gap_on([bench.documents], losses[name], other, 0.95)

    pairs, gained = (
        {name: beyond(name, losses["random"]) for name in STARTS if name != "random"},
        losses["random"] - losses["near"],
    )
    quarter, most = (beyond("lazy", losses["random"] - share * gained) for share in (0.25, 0.75))
    g = -pairs["near"].mean
    told = "; ".join(
        f"{name} - random {one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]" for name, one in pairs.items()
    )
    if pairs["near"].high >= 0:
        return f"{told}. The neighbours gain nothing on random weights: it cannot be told."
    if quarter.low > 0:
        return f"{told}. Lazy layers are **no better than random** (less than a quarter of the neighbours' {g:.3f})."
    if most.high < 0:
        return (
            f"{told}. Lazy layers are **as good a start as others** (over three quarters of the neighbours' {g:.3f})."
        )
    return f"{told}. It **cannot be told** (between a quarter and three quarters of the neighbours' {g:.3f})."


def table(rows: Mapping[str, list[dict[str, Any]]]) -> str:
    """The cells as Markdown, one line each."""
    lines = ["| start | seed | blocks | held-out loss | lazy heads before | after |", "|---|---|---|---|---|---|"]
    for name, of_start in rows.items():
        for row in of_start:
            blocks = "random" if name == "random" else ", ".join(map(str, row["blocks"]))
            counts = (" ".join(map(str, row[when]["lazy_heads"])) for when in ("before", "after"))
            lines.append(f"| {name} | {row['seed']} | {blocks} | {row['loss']:.4f} | {' | '.join(counts)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--profile", type=Path, action="append", required=True)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    profiles = [Profile.load(place) for place in given.profile]
    lazy = lazy_heads(profiles)
    chosen = starts(lazy, len(profiles[0].layers[0].heads), given.blocks)
    print(
        f"lazy heads by layer: {lazy}\n" + "\n".join(f"{name}: {blocks}" for name, blocks in chosen.items()), flush=True
    )
    recipe = load_recipe(RunRecipe, given.recipe, {})
    folder = open_folder(given.out, recipe)
    try:
        base = Bench(recipe, folder, load_reference(recipe.reference, recipe.revision), Progress())
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in STARTS}
        for seed in given.seeds:
            bench = base.under(recipe.model_copy(update={"seed": seed}))
            for name in STARTS:
                rows[name].append(trained(name, chosen[name], bench, folder))
        print(f"{table(rows)}\n\n{judged(rows, base)}")
    finally:
        close_folder(folder)


if __name__ == "__main__":
    main()
