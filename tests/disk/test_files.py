import errno
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from inheritune.disk import files
from inheritune.disk.files import (
    append,
    digest,
    left_of,
    make_folder,
    no_link,
    reserve,
    whole_file,
    write_text,
    writing,
)
from inheritune.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_text_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "before")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full") as refused:
        write_text(tmp_path / "a", "after")
    assert refused.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "before" and names(tmp_path) == ["a"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "before")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "before" and names(tmp_path) == ["a"]


def test_what_others_left_beside_stays(tmp_path: Path) -> None:
    """Names that come near ours, but are not, and folders that others make there."""
    for name in (".a.partial", "a.part", ".a.inheritune", ".a.0123456789.inheritune", ".b.0123456789ab.inheritune"):
        (tmp_path / name).write_text("mine")
    write_text(tmp_path / "a", "new")
    assert all(path.read_text() == "mine" for path in tmp_path.iterdir() if path.name != "a")
    assert left_of(".b.0123456789ab.inheritune") == "b" and left_of(".a.inheritune") is None


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to("victim")
    with pytest.raises(OSError) as refused, open(tmp_path / "a", "a", opener=no_link):
        raise AssertionError("it was opened")
    assert refused.value.errno == errno.ELOOP
    write_text(tmp_path / "a", "new")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "a").read_text() == "new" and (tmp_path / "victim").read_text() == "precious"


def test_a_link_in_place_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("nowhere")
    with pytest.raises(OutputError, match=r"log' cannot be written: .*remove the link"), writing(tmp_path):
        open(tmp_path / "log", "a", opener=no_link).close()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("mask", [0o022, 0o002, 0o077])
def test_rights_are_those_of_the_users_mask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "")
        open(tmp_path / "b", "a", opener=no_link).close()
        make_folder(tmp_path / "c" / "d")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b", "c", "c/d")] == [
        *2 * [0o666 & ~mask],
        *2 * [0o777 & ~mask],
    ]


def test_a_place_is_tried_with_a_file_that_nobody_else_has(tmp_path: Path) -> None:
    (tmp_path / ".writable").write_text("mine")
    reserve(tmp_path)
    reserve(tmp_path / "new" / "folder")
    assert names(tmp_path) == [".writable", "new", "new/folder"] and (tmp_path / ".writable").read_text() == "mine"
    with pytest.raises(NotADirectoryError) as refused:
        reserve(tmp_path / ".writable" / "x")
    assert refused.value.filename == str(tmp_path / ".writable" / "x")


def test_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert digest(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_arrays_are_written_as_numpy_writes_them(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a.npy") as file:
        np.save(file, np.arange(3))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]


def test_where_no_folder_can_be_synced_none_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows, where links are looked for instead of being left unfollowed."""
    synced: list[bool] = []
    monkeypatch.delattr(os, "O_DIRECTORY")
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)))
    monkeypatch.setattr(files, "_NO_FOLLOW", 0)
    write_text(tmp_path / "deep", "text")
    make_folder(tmp_path / "folder" / "below")
    assert synced == [False]
    (tmp_path / "link").symlink_to("deep")
    with pytest.raises(OSError) as refused:
        append(tmp_path / "link", "more")
    assert refused.value.errno == errno.ELOOP and (tmp_path / "deep").read_text() == "text"


def test_what_is_added_stands_behind_what_was_there(tmp_path: Path) -> None:
    append(tmp_path / "log", "one\n")
    append(tmp_path / "log", "zwö\n")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\nzwö\n"
