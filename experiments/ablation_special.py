"""Variations of `ablations.py` that take more than one round of one cut."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import torch
from ablation_cells import Cell, Lab, Row, kept

from inheritune.progress import Progress
from inheritune.records.stages import Position
from inheritune.runs.rounds import newest_checkpoint
from inheritune.runs.run import run
from inheritune.surgery.in_memory import inherit
from inheritune.training import checkpoint

_PROBE_SHARE = 0.2  # of the budget
_RANDOM_CUTS = 3


def halving(lab: Lab) -> Row:
    """Successive halving over the criteria's cuts and random ones; the cost of the losers is counted."""
    left = {lab.choice.method: lab.blocks, **lab.cuts}
    drawn = random.Random(lab.recipe.seed)
    for number in range(_RANDOM_CUTS):
        left[f"random-{number}"] = [0, *sorted(drawn.sample(range(1, lab.whole - 1), lab.depth - 2)), lab.whole - 1]
    probes, rungs = list[Row](), (len(left) - 1).bit_length()
    for rung in range(rungs):
        each = _PROBE_SHARE * lab.budget / rungs / len(left)
        found = {
            name: lab.cell(Cell(f"halving-{rung}-{name}", cut, budget=each, choice=0.0)) for name, cut in left.items()
        }
        probes += found.values()
        best = sorted(found, key=lambda name: found[name]["gap"]["mean"])[: (len(left) + 1) // 2]
        left = {name: left[name] for name in best}
    sums = {key: sum(row[key] for row in probes) for key in ("tokens", "training_flops", "flops")}
    sums["flops"] -= len(probes) * lab.found
    choosing = sum(choice.flops for choice in (lab.choice, *lab.choices.values()))
    rest = lab.budget - sums["training_flops"]
    (winner,) = left.values()
    row = lab.cell(Cell("blocks-halving", winner, budget=rest, choice=choosing))
    return row | {key: row[key] + value for key, value in sums.items()}


def two_steps(lab: Lab) -> Row:
    """Half of the cut and half of the budget, then the rest of both; the whole reference is the teacher throughout."""
    between = lab.choice.blocks((lab.whole + lab.depth) // 2)
    cells = lab.folder / "cells"
    kept_trained = {"checkpoints_kept": lab.training.checkpoints_kept}
    first = lab.cell(Cell("steps-first", between, training=kept_trained, budget=lab.budget / 2))
    place = cells / "steps-two"
    if not (place / "start.json").exists():
        trained = inherit(lab.bench.model, between)
        checkpoint.load(newest_checkpoint(cells / "steps-first"), trained)
        cut = inherit(trained, [between.index(block) for block in lab.blocks])
        checkpoint.save(place / "checkpoints", cut, {}, Position())
        kept(place / "start.json", lambda: {"flops": 0.0})
    second = lab.cell(Cell("steps-two", lab.blocks, budget=lab.budget / 2))
    sums = {key: first[key] + second[key] for key in ("tokens", "training_flops")}
    return second | sums | {"flops": second["flops"] + first["training_flops"]}


def grown(lab: Lab, recipe: str, settings: dict[str, Any], new_blocks: str) -> Row:
    """Grow from half the depth to the base's, as the policy decides, within the base's training FLOPs."""
    half, training = lab.whole // 2, lab.training
    rounds = {
        "training.tokens": training.tokens // 2, "training.warmup_tokens": training.warmup_tokens // 2,
        "training.evaluate_every": max(1, lab.steps // 20), "growth.start": min(half, lab.depth), "growth.max_depth": lab.depth,
        "growth.new_blocks": new_blocks, "limits.max_flops": lab.budget, "limits.max_rounds": lab.whole,
    }  # fmt: skip
    place = lab.folder / "cells" / f"grow-{new_blocks}"
    if not (place / "result.json").exists():
        run(recipe, out=str(place), progress=Progress(), **{**settings, **rounds})
    found = json.loads((place / "result.json").read_text(encoding="utf-8"))
    number = next(n for n, row in enumerate(found["rounds"], 1) if row["blocks"] == found["target"]["blocks"])
    spent = found["ledger"]["phases"]["training"]
    return {
        "name": f"grow-{new_blocks}", "depth": found["target"]["depth"], "blocks": found["target"]["blocks"],
        "tokens": spent["tokens"], "training_flops": spent["flops"], "flops": found["ledger"]["total"]["flops"],
        "gap": found["rounds"][number - 1]["gap"],
        "losses": lab.inside(next(place.glob(f"rounds/{number:02}-*/losses.npy"))),
        "rounds": [(row["depth"], row["tokens"]) for row in found["rounds"]],
    }  # fmt: skip


def averaged(lab: Lab) -> list[Row]:
    """A round whose learning rate does not decay, and the mean of the weights over its last quarter."""
    training = {"schedule": "constant", "checkpoints_kept": 5, "checkpoint_every": max(1, lab.steps // 20)}
    constant = lab.cell(Cell("train-constant", lab.blocks, training=training))
    place = lab.folder / "cells" / "train-constant"
    mean = kept(place / "averaged.json", lambda: _mean(lab, constant, place))
    shutil.rmtree(place / "checkpoints", ignore_errors=True)
    return [constant, mean]


@torch.no_grad()
def _mean(lab: Lab, constant: Row, place: Path) -> Row:
    model = inherit(lab.bench.model, lab.blocks)
    folders = sorted((place / "checkpoints").glob("step-*"))
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in model.named_parameters()}
    for folder in folders:
        checkpoint.load(folder, model)
        for name, parameter in model.named_parameters():
            sums[name] += parameter / len(folders)
    for name, parameter in model.named_parameters():
        parameter.copy_(sums[name])
    flops = constant["flops"] + lab.comparing(model)
    return {**constant, "name": "train-averaged", "flops": flops, **lab.compared(model, place / "averaged.npy")}
