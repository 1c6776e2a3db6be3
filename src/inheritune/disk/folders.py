"""Atomic folders: made beside their place, synced with all that is in them, and moved there.

While `NAME` is made, a staging folder `.NAME.inheritune` stands beside it. It holds `new`, the folder in the making; `old`, the
previous folder, where that has to be moved aside; and the lock of the process at work. A process that dies leaves the staging
folder behind; the next one that makes the same folder, or holds the run folder around it, moves `old` back if its place is
empty, and removes the rest.
"""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inheritune.disk.files import MARK, left_of, sync
from inheritune.disk.locks import LOCK, HeldFolder, hold
from inheritune.errors import OutputError, plain

SPARE = 64 << 20  # bytes of a disk that stay free
_NEW, _OLD = "new", "old"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux's renameat2


def beside(place: Path) -> Path:
    """Where `whole_folder` makes the folder that will stand at `place`."""
    return _stage(place) / _NEW


@contextmanager
def whole_folder(place: Path, replace: bool = True) -> Iterator[Path]:
    """Make an empty folder to fill, which replaces `place` when the block ends, and is removed if the block fails.

    What is at `place` stays until then. Raises OutputError if another process is making the same folder, or if `place`
    exists and may not be replaced; OSError, naming `place`, if it cannot be written.
    """
    with _about(place), _held(place):
        new = beside(place)
        new.mkdir()
        yield new
        _settle(new)
        _move(new, place, replace)


def recover(place: Path) -> None:
    """Clean up after a process that died while making `place`: move back what it had moved aside, and remove what it was making."""
    stage = _stage(place)
    if _is_ours(stage) and (held := hold(stage)):
        _let_go(place, held)


def sweep(folder: Path) -> None:
    """Clean up what dead processes left half made in a folder; the caller must hold it."""
    for path in sorted(folder.rglob(f".?*{MARK}")):
        if left_of(path.name) and path.is_file():
            path.unlink()
        else:
            recover(_place(path))


def free_bytes(place: Path) -> int:
    """Bytes that may be written to the disk of `place`, which need not exist, so that `SPARE` stays free."""
    there = next(path for path in (place, *place.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free - SPARE


def require_room(folder: Path, size: int) -> None:
    """Raise OutputError where the disk has no room for `size` bytes in a folder that is being made."""
    place = _place(folder.parent) if folder.name == _NEW and folder.parent.name.endswith(MARK) else folder
    free = free_bytes(place.parent)
    if free < size:
        needed, have = (f"{(count + SPARE) / 1e9:.2f} GB" for count in (size, free))
        raise OutputError(
            f"Writing into {place.parent} needs {needed}, and its disk has {have} free: choose another disk."
        )


def _stage(place: Path) -> Path:
    return place.with_name(f".{place.name}{MARK}")


def _place(stage: Path) -> Path:
    return stage.with_name(stage.name[1:].removesuffix(MARK))


@contextmanager
def _about(place: Path) -> Iterator[None]:
    """Make an OSError of the block name `place`, not the staging folder beside it."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str) or Path(error.filename).is_relative_to(_stage(place)):
            error.filename = str(place)
        raise


@contextmanager
def _held(place: Path) -> Iterator[None]:
    """Hold the staging folder of a place; clean up what another process left there first, and our own at the end."""
    stage = _stage(place)
    if os.path.lexists(stage) and not _is_ours(stage):
        raise OutputError(f"{str(stage)!r} is in the way and not of this program: move it, or choose another place")
    held = hold(stage)
    if held is None:
        raise OutputError(f"another command is writing {str(place)!r}: wait for it, or choose another place")
    try:
        _put_back(place)
        yield
    finally:
        _let_go(place, held)


def _is_ours(stage: Path) -> bool:
    if stage.is_symlink() or not stage.is_dir():
        return False
    try:
        names = {entry.name for entry in stage.iterdir()}
    except FileNotFoundError:  # the process that made it is done
        return True
    return not names or {LOCK} <= names <= {LOCK, _NEW, _OLD}


def _let_go(place: Path, held: HeldFolder) -> None:
    try:
        _put_back(place)
    finally:
        held.release()
        with suppress(OSError):  # another process may hold it by now
            _stage(place).rmdir()


def _put_back(place: Path) -> None:
    """Move `old` back if its place is empty, and remove the rest; the caller must hold the staging folder."""
    new, old = beside(place), _stage(place) / _OLD
    if os.path.lexists(old) and not os.path.lexists(place):
        old.rename(place)
        sync(place.parent)
        print(f"{plain(place)} was put back as it was before a command that did not end", file=sys.stderr)
    for left in (new, old):
        remove(left)


def _settle(new: Path) -> None:
    """Give every file the permissions of the user's umask (safetensors lets nobody else read its files), and sync all."""
    rights = new.stat().st_mode & 0o666
    for path in [*new.rglob("*"), new]:
        if path.is_file():
            path.chmod(rights)
        sync(path)


def _move(new: Path, place: Path, replace: bool) -> None:
    if not os.path.lexists(place):
        new.rename(place)
    elif not replace:
        raise OutputError(f"{place} exists: choose another folder, or give --force to replace it.")
    elif not _exchange(new, place):
        place.rename(new.with_name(_OLD))
        new.rename(place)
    sync(place.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths atomically; False if the system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def remove(path: Path) -> None:
    """Remove a file, a link or a folder of ours, as far as it can be removed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
