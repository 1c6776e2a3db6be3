"""Death at the writes, renames and deletes of a run: the same bits afterwards.

The whole list takes minutes (`benchmarks/kills.py` goes through it); here some all over the run are tried.
"""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from crash import Point, files_of, in_a_fork, restore, traced, watched
from test_killed import found
from tiny import recipe_tree

from inheritune import run
from inheritune.disk.files import MARK

EVERY = 150
# Deaths that were not survived once: a recipe not yet in place, a row half-written.
ONCE = ("after opening out/.config.yaml.", "halfway through out/metrics.jsonl")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder that holds all that a run writes: its own folder, and the cache."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("crash") / "root"
        root.mkdir()
        patch.setenv("INHERITUNE_CACHE", str(root / "cache"))
        yield root


@pytest.fixture(scope="module")
def recipe(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree(gpt2, corpus / "words.jsonl")))
    return str(path)


@pytest.fixture(scope="module")
def points(place: Path, recipe: str) -> list[Point]:
    return traced(place, lambda: run(recipe, out=str(place / "out")))


@pytest.fixture(scope="module")
def whole(place: Path, points: list[Point]) -> dict[str, Any]:
    return found(place / "out")


def test_the_trace_knows_of_every_file(points: list[Point], place: Path) -> None:
    """Each file of the finished run was opened, moved or stored at a traced point, or made inside a folder that was moved."""
    names = [point.name for point in points]
    moved = [name.rsplit(" to ", 1)[1] for name in names if name.startswith(("after rename", "after replace"))]
    for name, content in files_of(place).items():
        if content is not None:
            assert any(name in told for told in names) or any(
                Path(name).is_relative_to(folder) or name == folder for folder in moved
            ), name
    for wanted in (
        "rounds/01-2-blocks",
        "rounds/02-3-blocks",
        "out/model",
        "result.json",
        "report.html",
        "step-0000006",
    ):
        assert any(wanted in told for told in names), wanted
    assert len(points) > 150


def test_death_leaves_what_the_trace_says(points: list[Point], place: Path, recipe: str, tmp_path: Path) -> None:
    """A process that kills itself at a point leaves the files of that point."""
    before = files_of(place)
    wanted = next(point.name for point in points if "halfway through out/metrics.jsonl" in point.name)

    def moment(name: str) -> None:
        if name == wanted:
            os.kill(os.getpid(), signal.SIGKILL)

    def die() -> None:
        with watched(place, moment):
            run(recipe, out=str(place / "out"))

    restore({}, place)
    status = in_a_fork(die)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    left = files_of(place)
    restore(before, place)
    assert left.keys() == next(point.files for point in points if point.name == wanted).keys()
    line = left["out/metrics.jsonl"]
    assert line and not line.endswith(b"\n")


def test_a_death_anywhere_is_survived(points: list[Point], whole: dict[str, Any], place: Path, recipe: str) -> None:
    for point in [*points[::EVERY], *(next(p for p in points if once in p.name) for once in ONCE)]:
        restore(point.files, place)

        def go_on(point: Point = point) -> None:
            run(recipe, out=str(place / "out"))
            after = found(place / "out")
            assert not [key for key in whole if after[key] != whole[key]], point.name
            assert not [path for path in (place / "out").rglob("*") if path.suffix == MARK]

        assert in_a_fork(go_on) == 0, point.name
