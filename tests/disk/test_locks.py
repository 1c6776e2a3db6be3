import os
from pathlib import Path

import pytest
from launch import forked

from inheritune.disk.locks import LOCK, hold
from inheritune.errors import OutputError


def test_one_holds_a_folder_at_a_time(tmp_path: Path) -> None:
    first = hold(tmp_path)
    assert first and hold(tmp_path) is None

    def other() -> None:
        assert hold(tmp_path) is None

    assert os.waitpid(forked(other), 0)[1] == 0
    first.release()
    assert not [*tmp_path.iterdir()]
    second = hold(tmp_path)
    assert second
    second.release()


def test_a_death_lets_go(tmp_path: Path) -> None:
    assert os.waitpid(forked(lambda: hold(tmp_path)), 0)[1] == 0
    assert (tmp_path / LOCK).exists()
    held = hold(tmp_path)
    assert held
    held.release()


def test_a_folder_made_to_be_held_goes_if_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "new", "used"):
        held = hold(tmp_path / name)
        assert held
        if name == "used":
            (tmp_path / name / "file").touch()
        held.release()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "used"]


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    first = hold(tmp_path)
    assert first

    def second() -> None:
        held = hold(tmp_path, wait=True)
        assert held and (tmp_path / "done").exists()

    child = forked(second)
    (tmp_path / "done").touch()
    first.release()
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("kind", ["link", "dangling", "text", "folder"])
def test_what_is_no_lock_of_ours_is_neither_emptied_nor_followed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "victim").write_text("precious")
    place = tmp_path / LOCK
    match kind:
        case "link":
            place.symlink_to("victim")
        case "dangling":
            place.symlink_to("nowhere")
        case "text":
            place.write_text("precious")
        case "folder":
            place.mkdir()
    with pytest.raises(OutputError, match="no lock that was left here"):
        hold(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious" and not (tmp_path / "nowhere").exists()
    assert kind != "text" or place.read_text() == "precious"
