import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from launch import forked
from safetensors.torch import save_file

from inheritune.disk import folders
from inheritune.disk.files import whole_file
from inheritune.disk.folders import free_bytes, recover, require_room, sweep, whole_folder
from inheritune.errors import OutputError

BOTH = pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The place of a folder that holds `old`."""
    with whole_folder(tmp_path / "dest") as beside:
        (beside / "old").touch()
    return tmp_path / "dest"


def held(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def make(place: Path, name: str, replace: bool = True) -> None:
    with whole_folder(place, replace) as beside:
        (beside / name).touch()


def without_exchange(patch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        patch.setattr(folders, "_exchange", lambda *_: False)


@BOTH
def test_a_folder_takes_its_place_whole(place: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    without_exchange(monkeypatch, exchange)
    with whole_folder(place) as beside:
        (beside / "new").touch()
        assert held(place) == ["old"]
    assert held(place) == ["new"] and held(place.parent) == ["dest"]


def test_the_old_and_the_new_change_places_in_one_step_here(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    if not folders._exchange(tmp_path / "other", place):
        pytest.skip("this system cannot exchange two names")
    assert held(tmp_path / "other") == ["old"] and held(place) == []


def test_a_block_that_fails_changes_nothing(place: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_folder(place) as beside:
        (beside / "new").touch()
        raise ZeroDivisionError
    assert held(place) == ["old"] and held(place.parent) == ["dest"]


def test_the_old_comes_back_where_the_new_cannot_be_moved(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_exchange(monkeypatch, False)
    rename = Path.rename

    def second_fails(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise OSError(5, "broken")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(OSError, match="broken"):
        make(place, "new")
    assert held(place) == ["old"] and held(place.parent) == ["dest"]


def killed(act: Callable[[], Any]) -> None:
    child = forked(act)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL


def kill(*_: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int) -> None:
    call, calls = getattr(owner, name), []

    def wrapped(*arguments: Any) -> Any:
        given = call(*arguments)
        calls.append(1)
        if len(calls) == number:
            kill()
        return given

    patch.setattr(owner, name, wrapped)


DEATHS: dict[str, tuple[bool, Callable[[pytest.MonkeyPatch], None]]] = {
    "while it is made": (True, lambda patch: patch.setattr(folders, "_settle", kill)),
    "before the exchange": (True, lambda patch: patch.setattr(folders, "_exchange", kill)),
    "after the exchange": (True, lambda patch: kill_after(patch, folders, "_exchange", 1)),
    "between two renames": (False, lambda patch: kill_after(patch, Path, "rename", 1)),
    "after two renames": (False, lambda patch: kill_after(patch, Path, "rename", 2)),
}


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize("next_", [recover, lambda place: sweep(place.parent), lambda place: make(place, "new")],
                         ids=["asked", "swept", "made again"])  # fmt: skip
def test_after_a_death_one_of_both_stands_and_nothing_is_left(
    place: Path, death: str, next_: Callable[[Path], None]
) -> None:
    exchange, act = DEATHS[death]

    def die() -> None:
        patch = pytest.MonkeyPatch()
        without_exchange(patch, exchange)
        act(patch)
        make(place, "new")

    killed(die)
    assert held(place.parent) != ["dest"], "the death left nothing: it came too late"
    assert place.exists() or not exchange, "where names can be exchanged, a model stands at every moment"
    next_(place)
    assert held(place) in (["old"], ["new"]) and held(place.parent) == ["dest"]
    make(place, "new")
    assert held(place) == ["new"]


def test_what_was_put_back_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = place.with_name(".dest.inheritune")
    stage.mkdir()
    (stage / ".lock").touch()
    place.rename(stage / "old")
    recover(place)
    assert held(place) == ["old"] and f"{place} was put back" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["a file", "other/content", "new/without a lock", "link"])
def test_what_is_in_the_way_is_not_touched(tmp_path: Path, content: str) -> None:
    stage = tmp_path / ".dest.inheritune"
    if content == "a file":
        stage.write_text("mine")
    elif content == "link":
        (tmp_path / "elsewhere" / "new").mkdir(parents=True)
        (tmp_path / "elsewhere" / ".lock").touch()
        stage.symlink_to("elsewhere")
    else:
        (stage / content).mkdir(parents=True)
    before = [*tmp_path.rglob("*")]
    with pytest.raises(OutputError, match="in the way"):
        make(tmp_path / "dest", "new")
    sweep(tmp_path)
    recover(tmp_path / "dest")
    assert [*tmp_path.rglob("*")] == before


def test_of_two_that_make_one_folder_the_second_is_told(place: Path) -> None:
    with whole_folder(place) as beside:
        (beside / "new").touch()
        with pytest.raises(OutputError, match=r"another command is writing '.*dest': wait"):
            make(place, "other")
        sweep(place.parent)
        recover(place)
    assert held(place) == ["new"] and held(place.parent) == ["dest"]


def test_what_appeared_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    refused = pytest.raises(OutputError, match="exists: choose another folder, or give --force")
    with refused, whole_folder(tmp_path / "dest", replace=False) as beside:
        (beside / "new").touch()
        (tmp_path / "dest").mkdir()
        (tmp_path / "dest" / "mine").touch()
    assert held(tmp_path / "dest") == ["mine"] and held(tmp_path) == ["dest"]


@BOTH
def test_a_link_at_the_place_is_replaced_and_not_what_it_leads_to(
    place: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    without_exchange(monkeypatch, exchange)
    link = place.with_name("link")
    link.symlink_to("dest")
    make(link, "new")
    assert not link.is_symlink() and held(link) == ["new"] and held(place) == ["old"]


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_rights_are_those_of_the_users_mask(tmp_path: Path, mask: int) -> None:
    """Weights too, which safetensors keeps from others."""
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "dest") as beside:
            save_file({"a": torch.zeros(1)}, beside / "weights")
            (beside / "inner").mkdir()
            (beside / "inner" / "text").touch()
    finally:
        os.umask(before)
    for path in (tmp_path / "dest", *(tmp_path / "dest").rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o777 if path.is_dir() else 0o666) & ~mask, path


def test_sweeping_removes_files_that_were_never_finished(tmp_path: Path) -> None:
    for name in ("a.part", ".a.partial", ".a.old", ".a.tmp.inheritune", "..inheritune", ".inheritune"):
        (tmp_path / name).touch()

    def die() -> None:
        with whole_file(tmp_path / "inner.json") as file:
            file.write(b"half")
            file.flush()
            kill()

    killed(die)
    assert len(held(tmp_path)) == 7
    sweep(tmp_path)
    assert held(tmp_path) == ["..inheritune", ".a.old", ".a.partial", ".a.tmp.inheritune", ".inheritune", "a.part"]


def test_room_is_asked_for_first(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "not" / "there")
    with whole_folder(tmp_path / "dest") as beside:
        require_room(beside, free // 2)
        with pytest.raises(OutputError, match=rf"Writing into {tmp_path} needs .* free: choose another disk"):
            require_room(beside, 2 * free)
