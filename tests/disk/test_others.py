"""Nothing of others is touched: their files, what their links lead to, the folder that they were first to make."""

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from launch import forked
from shell import command, refused

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.errors import InputError, OutputError
from inheritune.models import folder as model_folder
from inheritune.runs.folder import close_folder, left_if_used, open_folder
from inheritune.training.metrics import Metrics


def cut(source: Path, dest: Path, *more: str) -> list[str]:
    return ["inherit", str(source), str(dest), "--blocks", "0-1", "--no-prove", *more]


def test_a_diagnosis_that_cannot_be_written_removes_nothing(gpt2: Path, corpus: Path, tmp_path: Path) -> None:
    others = ("movie.mp4.part", "deep/thesis.part", ".work.partial/x", ".a.old/x", ".writable")
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "profile.json").mkdir()
    said = refused(
        "diagnose", str(gpt2), "--text", str(corpus / "words.jsonl"), "--length", "16", "--sequences", "2",
        "--curve-sequences", "0", "--quiet", "--out", str(tmp_path),
    )  # fmt: skip
    assert "profile.json' cannot be written" in said and "folder that stands in place" in said
    assert all((tmp_path / name).read_text() == "mine" for name in others)
    assert not [*tmp_path.glob("*.inheritune")]


@pytest.mark.parametrize("name", [".lock", "config.yaml"])
def test_a_run_empties_no_file_through_a_link(tree: dict[str, Any], tmp_path: Path, name: str) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(InputError) as told:
        open_folder(tmp_path / "out", check(RunRecipe, tree))
    assert name in str(told.value) or "is not" in str(told.value)
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_log_that_is_a_link_is_told(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "metrics.jsonl").symlink_to("victim")
    with pytest.raises(OutputError, match=r"metrics.jsonl' cannot be written"):
        Metrics(tmp_path / "metrics.jsonl").add({"step": 1})
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_folder_that_was_there_stays_where_the_input_is_of_no_use(tree: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new"):
        with (
            pytest.raises(OutputError, match="no use"),
            left_if_used(open_folder(tmp_path / name, check(RunRecipe, tree))),
        ):
            raise OutputError("no use")
        close_folder(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"] and not [*(tmp_path / "mine").iterdir()]


def test_of_two_cuts_to_one_place_one_wins_and_one_is_told(gpt2: Path, tmp_path: Path) -> None:
    """The second begins while the first is at work, and goes on when that has ended."""
    told = tmp_path / "told"

    def second() -> None:
        told.write_text(refused(*cut(gpt2, tmp_path / "dest")))

    with model_folder.placed(tmp_path / "dest", False) as folder:
        assert os.waitpid(forked(second), 0)[1] == 0
        (folder / "config.json").touch()
    assert "another command is writing" in told.read_text()
    assert [path.name for path in (tmp_path / "dest").iterdir()] == ["config.json"]
    assert "exists: choose another folder, or give --force" in refused(*cut(gpt2, tmp_path / "dest"))


def test_force_replaces_a_model_and_no_folder_of_anything_else(gpt2: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    dest.mkdir()
    (dest / "notes.txt").write_text("mine")
    for force in ((), ("--force",)):  # which is not offered where it would not help
        assert "dest is not empty and holds no model" in refused(*cut(gpt2, dest, *force))
        assert "lie inside one another" in refused(*cut(gpt2, gpt2, *force))
    assert (dest / "notes.txt").read_text() == "mine"
    (dest / "notes.txt").unlink()
    for _ in ("an empty folder", "a model"):
        assert command(*cut(gpt2, dest, "--force")).code == 0
        assert (dest / "config.json").is_file()


@pytest.mark.parametrize("mask", [0o002, 0o077])
def test_a_model_has_the_rights_of_the_users_mask(gpt2: Path, tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        assert command(*cut(gpt2, tmp_path / "dest")).code == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "dest").iterdir()}
    assert "model.safetensors" in modes and {*modes.values()} == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "dest").stat().st_mode) == 0o777 & ~mask


@pytest.mark.parametrize("dest", [".", ".."])
def test_a_place_without_a_name_is_no_place(gpt2: Path, tmp_path: Path, dest: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert "names no folder" in refused(*cut(gpt2, Path(dest), "--force"))


@pytest.mark.parametrize("to", ["nowhere", "dest"])
def test_a_dangling_link_is_replaced_only_if_asked(gpt2: Path, tmp_path: Path, to: str) -> None:
    (tmp_path / "dest").symlink_to(to)
    assert "give --force" in refused(*cut(gpt2, tmp_path / "dest"))
    assert command(*cut(gpt2, tmp_path / "dest", "--force")).code == 0
    assert not (tmp_path / "nowhere").exists() and (tmp_path / "dest" / "config.json").is_file()
