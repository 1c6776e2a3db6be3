from pathlib import Path

import pytest

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.errors import OutputError, RecipeError
from inheritune.records.stages import Machine
from inheritune.runs.folder import close_folder, once, open_folder


def recipe(**changes: object) -> RunRecipe:
    training = {"tokens": 1024, "batch_tokens": 128}
    return check(
        RunRecipe,
        {"name": "x", "reference": "r", "data": {"train": "t", "sequence_length": 16}, "training": training, **changes},
    )


def test_one_process_at_a_time(tmp_path: Path) -> None:
    open_folder(tmp_path / "a", recipe())
    with pytest.raises(OutputError, match="another run is going on"):
        open_folder(tmp_path / "a", recipe())
    close_folder(tmp_path / "a")
    close_folder(open_folder(tmp_path / "a", recipe()))


def test_a_refusal_leaves_the_folder_free(tmp_path: Path) -> None:
    close_folder(open_folder(tmp_path / "a", recipe()))
    with pytest.raises(RecipeError, match=r"seed = 0, and this recipe says 1"):
        open_folder(tmp_path / "a", recipe(seed=1))
    close_folder(open_folder(tmp_path / "a", recipe()))


def test_limits_and_controls_may_change(tmp_path: Path) -> None:
    close_folder(open_folder(tmp_path / "a", recipe()))
    close_folder(open_folder(tmp_path / "a", recipe(limits={"max_rounds": 2}, controls=True)))
    assert "max_rounds: 2" in (tmp_path / "a" / "config.yaml").read_text()


def test_a_folder_of_something_else_gets_not_even_a_lock(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="no run folder"):
        open_folder(tmp_path, recipe())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    "left", [(".lock",), (".config.yaml.0123456789ab.inheritune",), (".lock", ".config.yaml.0123456789ab.inheritune")]
)
def test_a_run_that_died_at_its_very_start_is_begun_anew(left: tuple[str, ...], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).touch()
    close_folder(open_folder(tmp_path, recipe()))
    assert (tmp_path / "config.yaml").exists() and not (tmp_path / left[-1]).exists()


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        open_folder(tmp_path / "file" / "run", recipe())


def test_once_is_once(tmp_path: Path) -> None:
    calls = []

    def compute() -> Machine:
        calls.append(1)
        return Machine(matrix_rate=1 / 3)

    found = [once(Machine, tmp_path / "a.json", compute) for _ in range(2)]
    assert found == [Machine(matrix_rate=1 / 3)] * 2
    assert len(calls) == 1
