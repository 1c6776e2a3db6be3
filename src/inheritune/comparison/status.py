"""`inheritune status`: where a run, a training or a comparison stands, told by what its folder holds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inheritune.config.loading import check
from inheritune.config.recipes import CompareRecipe
from inheritune.config.strict_yaml import read_file, read_yaml
from inheritune.errors import InputError
from inheritune.records.cells import CellResult, Failure, PhaseTokens
from inheritune.records.rows import METRICS
from inheritune.records.stages import RoundEnd
from inheritune.runs.going_on import command_of
from inheritune.runs.status import RunStatus, Stage, Standing, in_training, run_status, train_status, working


def status(folder: str | Path) -> RunStatus:
    """Tell where the run, training or comparison in `folder` stands. It only reads, and may be called at any moment.

    Raises InputError for a folder that is missing or none of these, or whose files are damaged.
    """
    place = Path(folder)
    if not place.is_dir():
        raise InputError(
            f"there is no run folder {str(folder)!r}: name the folder that --out named; a run makes it once it has read the shape of"
            " its reference"
        )
    if shards := sorted(place.glob("shards/*/config.yaml")):
        return _compare_status(place, shards)
    config = place / "config.yaml"
    tree = _recipe(config) if config.is_file() else {}
    if "methods" in tree or place.parent.name == "cells":
        raise InputError(f"{str(folder)!r} is a part of a comparison: ask for {str(place.parent.parent)!r}")
    if "model" in tree:
        return train_status(place, tree)
    if "reference" in tree:
        return run_status(place, tree)
    raise InputError(
        f"{str(folder)!r} is no folder of a run, a training or a comparison: name the folder that --out named"
    )


def _recipe(config: Path) -> Mapping[str, Any]:
    return read_yaml(read_file(config), repr(str(config)))


def _compare_status(folder: Path, shards: list[Path]) -> RunStatus:
    """The status by cells: how many are done of those that the recipe asks for. A cell that failed or was refused counts as done."""
    recipe = check(CompareRecipe, dict(_recipe(shards[0])))
    places = [place for place in sorted(folder.glob("cells/*")) if place.is_dir()]
    left = [place for place in places if not any((place / kind.NAME).exists() for kind in (CellResult, Failure))]
    grid = len(recipe.rates()) + recipe.seeds - 1
    refused = grid * len(list(folder.glob(f"cells/{Failure.OF_METHOD.format('*')}")))
    done, total = len(places) - len(left) + refused, len(recipe.methods) * grid
    finished = done >= total and (folder / "compare.json").exists()
    states = {working(shard.parent) for shard in shards}
    busy = next((state for state in ("going on", "going on or killed", "killed") if state in states), "stopped")
    return RunStatus(
        folder=str(folder), kind="compare", state="finished" if finished else busy,
        stage=Stage(name=f"cells, now {left[-1].name}" if left else "cells", done=done, total=total, unit="cell"),
        model=cell_standing(left[-1], recipe) if left and not finished else None,
        message=f"the table is {folder / 'compare.md'}" if finished else None,
        goes_on=None if finished else " && ".join(command_of(shard.parent, CompareRecipe) for shard in shards),
    )  # fmt: skip


def cell_standing(place: Path, recipe: CompareRecipe) -> Standing | None:
    """How far the cell in `place` is in the phase that it trains; None before the phase's first step and after the last phase."""
    if not (place / PhaseTokens.NAME).exists():
        return None
    phases = PhaseTokens.load(place / PhaseTokens.NAME).phases
    ended = [RoundEnd.load(end) for end in sorted(place.glob(f"phase-*/{RoundEnd.NAME}"))]
    if len(ended) == len(phases):
        return None
    training = recipe.training.model_copy(update={"tokens": phases[len(ended)]})
    return in_training(place / METRICS, training, len(ended) + 1, ended)[0]
