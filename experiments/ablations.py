"""What each part of a run is worth: a row for each variation of the recipe, at the training FLOPs of the base.

    python experiments/ablations.py --recipe laptop --out runs/ablations                       # the bundled reference
    python experiments/ablations.py --recipe RECIPE --reference MODEL --data TRAIN --valid TUNE --out runs/mine \\
        [--only NAME ...] [--set key=value] [--tokens N]

The base is one whole round of the recipe, at the depth where the recipe's own rule starts (`growth.start` overrides it); --tokens
is the round's length, and the warm-up keeps its share of it. Depth and order of blocks are found once. Each variation has
the base's total training FLOPs, including the teacher's passes and the optimizer, to within one step: if a step costs more,
there are fewer of them, and the other way round. Total FLOPs also include the rest: diagnosis, choice, repair, probes, and
one comparison. --only takes names or their beginnings (`teach`). Every cell is a folder under --out/cells, so the same
command continues after a stop. table.md and table.json hold every row done so far, and are rewritten after each. Tune on
text that no result is reported on.

  blocks-*   which blocks: each criterion's cut; the first ones and the last (`tail`); `halving`: all these and three
             random cuts (ends kept) share a fifth of the budget in rungs of equal cost; the worse half is dropped after each
             rung, and the last one left is trained from its start on the rest of the budget.
  start-*    how the cut starts: not healed; every block healed, not only those before gaps.
  teach-*    what is learned from: the text alone; half the text, half the reference's logits; the logits alone; the last two
             with hidden states too. These are compared at the gaps of the cut (`cut`), or after every block with those at the
             same share of depth (`share`), with those of the block it was inherited from (`origin`), or the same without the
             last two blocks (`origin-but-two`); by squared difference or by angle (`cosine`).
  steps-two  half of the cut first, and the rest of it after half of the budget, in the same order of blocks; the teacher stays.
  grow-*     from half the reference's depth to the base's by the policy, in rounds of at most half the base's tokens, which
             may end sooner; new blocks as named. It may stop below the base's FLOPs, as at a match.
  depth-*    the base's recipe one and two blocks shallower.
  train-*    peak rate; schedule; the other optimizer; batch size; no decay (`constant`), and the mean of its last quarter's
             checkpoints in place of a decay (`averaged`).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ablation_cells import Cell, Lab, Row
from ablation_special import averaged, grown, halving, two_steps

from inheritune.config.loading import load_recipe, parse_setting
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Objective, Training
from inheritune.disk.files import write_text
from inheritune.evidence.gap import gap
from inheritune.progress import Progress
from inheritune.runs.folder import close_folder, open_folder
from inheritune.words import show


def cells(lab: Lab) -> Iterator[Cell]:
    """The variations that consist of a single cell."""
    blocks = lab.blocks
    for name, cut in lab.cuts.items():
        chosen = lab.choices.get(name)
        yield Cell(f"blocks-{name}", cut, choice=chosen.flops if chosen else 0.0)
    for start in ("no heal", "heal all"):
        yield Cell(f"start-{start.replace(' ', '-')}", blocks, start=start)
    for name, objective in teaching(lab):
        if objective != lab.recipe.objective:
            yield Cell(f"teach-{name}", blocks, objective=objective)
    for depth in lab.lower:
        yield Cell(f"depth-{depth}", lab.choice.blocks(depth))
    for name, change in changes(lab.training):
        yield Cell(f"train-{name}", blocks, training=change)


def teaching(lab: Lab) -> Iterator[tuple[str, Objective]]:
    """The objectives of the variations, by name."""
    yield "text", Objective()
    yield "half", Objective(cross_entropy=0.5, logits=0.5)
    yield "logits", Objective(cross_entropy=0.0, logits=1.0)
    origins = dict(enumerate(lab.blocks))
    maps = {
        "cut": lab.gaps(lab.blocks),
        "share": None,
        "origin": origins,
        "origin-but-two": dict([*origins.items()][:-2]),
    }
    for name, layers in maps.items():
        states = Objective(cross_entropy=0.0, logits=1.0, hidden=1.0, layers=layers)
        yield f"logits-{name}", states
        yield f"logits-{name}-cosine", states.model_copy(update={"hidden_loss": "cosine"})
        yield f"half-{name}", states.model_copy(update={"cross_entropy": 0.5, "logits": 0.5})


def changes(training: Training) -> Iterator[tuple[str, dict[str, Any]]]:
    """The changes of training settings, by name."""
    peak, batch = training.peak_lr, training.batch_tokens
    for factor in (0.25, 0.5, 2):
        yield f"peak-x{factor:g}", {"peak_lr": factor * peak}
    for schedule in (name for name in ("cosine", "linear", "wsd") if name != training.schedule):
        yield schedule, {"schedule": schedule}
    other = "muon" if training.optimizer == "adamw" else "adamw"
    for factor in (0.25, 1):
        yield f"{other}-peak-x{factor:g}", {"optimizer": other, "peak_lr": factor * peak}
    for factor in (0.5, 2):
        yield f"batch-x{factor:g}", {"batch_tokens": round(factor * batch)}


def work(
    lab: Lab, given: argparse.Namespace, settings: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], list[Row]]]]:
    """Every variation by name, and what runs it. `train-averaged` gives the row of `train-constant` too."""
    for cell in cells(lab):
        yield cell.name, partial(_rows, lab, cell)
    yield "blocks-halving", lambda: [halving(lab)]
    yield "steps-two", lambda: [two_steps(lab)]
    for new in ("inherited", "copied", "identity", "random"):
        yield f"grow-{new}", partial(_grown, lab, given.recipe, settings, new)
    yield "train-averaged", lambda: averaged(lab)


def _rows(lab: Lab, cell: Cell) -> list[Row]:
    return [lab.cell(cell)]


def _grown(lab: Lab, recipe: str, settings: dict[str, Any], new_blocks: str) -> list[Row]:
    return [grown(lab, recipe, settings, new_blocks)]


def table(rows: list[Row]) -> str:
    """The rows as Markdown; their differences to the base are paired by document."""
    lines = [
        "| name | blocks | training tokens | training FLOPs | total FLOPs | gap [interval] | difference to the base |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['depth']}: {show(row['blocks'])} | {row['tokens']:,} | {row['training_flops']:.3g}"
            f" | {row['flops']:.3g} | {_told(row['gap'])} | {_told(row['difference']) if row['name'] != 'base' else ''} |"
        )
    return "\n".join(lines)


def _told(gap: dict[str, Any]) -> str:
    return f"{gap['mean']:+.4f} [{gap['low']:+.4f}, {gap['high']:+.4f}]"


def _difference(lab: Lab, row: Row, base: Row) -> Row:
    """The row with its difference to the base, paired by document."""
    own, other = (np.load(lab.folder / each["losses"]) for each in (row, base))
    match = lab.recipe.match
    found = gap(own, other, tokens=lab.bench.documents.weights, margin=match.margin, confidence=match.confidence)
    return {**row, "difference": asdict(found)}


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """The settings of the base: one round of the tokens asked for, with the warm-up in proportion."""
    text = {"reference": given.reference, "data.train": given.data, "data.valid": given.valid, "seed": given.seed}
    settings = {key: value for key, value in text.items() if value is not None}
    settings |= {"limits.max_rounds": 1, **dict(map(parse_setting, given.set))}
    training = load_recipe(RunRecipe, given.recipe, settings).training
    tokens = given.tokens or training.tokens
    lengths = {"training.tokens": tokens, "training.warmup_tokens": training.warmup_tokens * tokens // training.tokens}
    return settings | lengths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="laptop")
    parser.add_argument("--reference", help="folder or hub id, instead of the recipe's own")
    parser.add_argument("--data", help="training text")
    parser.add_argument("--valid", help="text to compare on")
    parser.add_argument("--set", action="append", default=[], help="key=value of the base's recipe")
    parser.add_argument("--tokens", type=int, help="training tokens of the base, instead of the recipe's")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--only", nargs="+", default=[""], help="names of variations, or their beginnings")
    parser.add_argument("--list", action="store_true", help="name the variations and run none")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    settings = _settings(given)
    recipe = load_recipe(RunRecipe, given.recipe, settings)
    folder = open_folder(given.out, recipe)
    try:
        lab = Lab(recipe, folder, Progress())
        chosen = [pair for pair in work(lab, given, settings) if pair[0].startswith(tuple(given.only))]
        if given.list:
            return print("\n".join(name for name, _ in chosen))
        base, place = lab.cell(Cell("base", lab.blocks)), folder / "table.json"
        rows = {row["name"]: row for row in json.loads(place.read_text())} if place.exists() else {}
        for _, make in [("base", lambda: [base]), *chosen]:
            new = [_difference(lab, row, base) for row in make()]
            rows |= {row["name"]: row for row in new}
            write_text(place, json.dumps(list(rows.values()), indent=1))
            write_text(folder / "table.md", table(list(rows.values())) + "\n")
            print("\n".join(table(new).splitlines()[2:]), flush=True)
        print(table(list(rows.values())))
    finally:
        close_folder(folder)


if __name__ == "__main__":
    main()
