"""What a stop says of how to go on is what `status` says of the folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import command
from stopping import stopping_at

from inheritune import Profile
from inheritune.comparison.status import status
from inheritune.config.loading import load_recipe
from inheritune.config.recipes import CompareRecipe, RunRecipe, TrainRecipe
from inheritune.progress import Progress
from inheritune.runs.folder import holding
from inheritune.runs.going_on import command_of
from inheritune.training.metrics import Metrics


@pytest.mark.parametrize(
    ("place", "recipe", "processes", "said"),
    [
        ("runs/a b", RunRecipe, 1, "inheritune run 'runs/a b/config.yaml' --out 'runs/a b'"),
        ("t", TrainRecipe, 8, "torchrun … -m inheritune train t/config.yaml --out t"),
        ("c/shards/1-of-1", CompareRecipe, 1, "inheritune compare c/shards/1-of-1/config.yaml --out c"),
        ("c/shards/2-of-8", CompareRecipe, 1, "inheritune compare c/shards/2-of-8/config.yaml --out c --shard 2/8"),
    ],
)
def test_each_kind_has_its_command(place: str, recipe: Any, processes: int, said: str) -> None:
    assert command_of(Path(place), recipe, processes) == said


def test_a_stop_and_status_say_the_same(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the settings were given beside the recipe; by as many processes as it was begun with."""
    out, heard = tmp_path / "out", list[str]()
    monkeypatch.setattr(Metrics, "add", stopping_at(2))
    monkeypatch.setattr(Progress, "at_once", lambda self, text: heard.append(text))
    ended = command("run", write_recipe(tree), "--out", str(out), "--quiet", "--set", "seed=3", "--price", "2")
    goes_on = status(out).goes_on
    assert ended.code == 143 and goes_on == f"inheritune run {out}/config.yaml --out {out}"
    assert ended.err.endswith(f"after step 2 of the round, which is saved: this goes on from there: {goes_on}\n")
    assert len(heard) == 1 and heard[0].startswith("Stopping after this step")
    assert Profile.load(out / "profile.json").model == tree["reference"], "figures of a run's diagnosis name its model"


def test_a_folder_knows_from_the_first_by_how_many_processes_it_was_begun(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = load_recipe(RunRecipe, write_recipe(tree), {}), tmp_path / "out"
    for name, value in {"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with holding(out, recipe):
        told = f"torchrun … -m inheritune run {out}/config.yaml --out {out}"
        assert status(out).goes_on == told
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name)
    with holding(out, recipe):
        assert status(out).goes_on == told


def test_a_stop_of_a_shard_names_the_comparison_and_not_its_cell(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("choice", "growth", "objective", "limits", "controls"):
        tree.pop(key, None)
    tree |= {"methods": ["published", "random"], "depth": 3, "seeds": 1}
    out = tmp_path / "out"
    monkeypatch.setattr(Metrics, "add", stopping_at(1))
    ended = command("compare", write_recipe(tree), "--out", str(out), "--quiet", "--shard", "2/2")
    assert ended.code == 143 and ended.err.endswith(f"this goes on from there: {status(out).goes_on}\n"), ended.err
    assert ended.err.endswith(f"inheritune compare {out}/shards/2-of-2/config.yaml --out {out} --shard 2/2\n")
