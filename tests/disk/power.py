"""What a power cut may undo: a recorder of the calls that make files last, and the rules that they have to keep.

A file is on the disk as it was when it was last synced, an entry of a folder if the folder was synced since. The rules: what is
moved to its place is on the disk whole, and so is all that was written before; right after a move the place's folder is synced,
before anything else is done, the removal of what stood there above all; data and the journal that tells of them are synced in turns;
and in the end everything is on the disk.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from inheritune.disk import files, folders
from inheritune.disk.files import MARK
from inheritune.disk.locks import LOCK

State = tuple[int, Any]  # inode; size and time of a file, entries of a folder
_SOURCE = str(Path(files.__file__).parents[1])


@dataclass(frozen=True)
class Event:
    """A call: `sync`, `move`, `remove`, or the `end`; where in the source it was made; everything as it was before it."""

    name: str
    path: Path
    to: Path | None
    site: str
    held: dict[Path, State]


@contextmanager
def recorded(root: Path) -> Iterator[list[Event]]:
    """The events below `root` while the block runs."""
    events = [Event("begin", root, None, "", _held(root))]

    def around(name: str, call: Callable[..., Any], path_of: Callable[[Any], Path] = Path) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            path = path_of(arguments[0])
            if path.is_relative_to(root):
                to = Path(arguments[1]) if name == "move" else None
                events.append(Event(name, path, to, _site(), _held(root)))
            return call(*arguments, **options)

        return wrapped

    def of_handle(handle: int) -> Path:
        return Path(os.readlink(f"/proc/self/fd/{handle}"))

    with (
        patch.object(os, "fsync", around("sync", os.fsync, of_handle)),
        patch.object(os, "rename", around("move", os.rename)),
        patch.object(os, "replace", around("move", os.replace)),
        patch.object(folders, "_exchange", around("move", folders._exchange)),
        patch.object(shutil, "rmtree", around("remove", shutil.rmtree)),
    ):
        yield events
    events.append(Event("end", root, None, "", _held(root)))


def broken_rules(events: list[Event], root: Path, without: str = "") -> list[str]:
    """What could be lost; `without`: as if the syncs at this place of the source were not made."""
    synced: dict[int, Any] = dict(events[0].held.values())
    unsure: list[Path] = []  # places that something was moved to, whose folder is not synced since
    broken = []
    for event in events[1:]:
        if event.name == "sync":
            broken += [
                f"{event.path} is synced before {p}" for p in _before(event) if not _lasts(p, event.held, synced)
            ]
            if event.site != without:
                inode, state = event.held[event.path]
                synced[inode] = state
                unsure = [place for place in unsure if place.parent != event.path]
            continue
        if unsure and event.name != "move":
            broken.append(f"{event.name} {event.path} while {unsure[0]} may be undone")
        if event.name == "move":
            inside = [path for path in event.held if path.is_relative_to(event.path)]
            broken += [f"{p} is moved before it is synced" for p in inside if not _lasts(p, event.held, synced)]
            if event.to is None or _being_made(event.to):
                continue
            unsure.append(event.to)
        if event.name != "remove":
            there = [path for path in event.held if path != root and path.name != LOCK and not _being_made(path / "in")]
            lost = [p for p in there if not (_lasts(p, event.held, synced) and _entered(p, event.held, synced))]
            broken += [f"{p} may be lost at the {event.name} of {event.path}" for p in lost]
    return broken


def _before(event: Event) -> list[Path]:
    """What has to be on the disk before a file of prepared text: the data before the journal, the journal before further data."""
    order = {".bin": (".jsonl",), ".starts": (".jsonl",), ".jsonl": (".bin", ".starts")}
    if (event.path.parent / "journal.jsonl") not in event.held:
        return []
    first = order.get(event.path.suffix, ())
    return [path for path in event.held if path.parent == event.path.parent and path.suffix in first]


def _being_made(path: Path) -> bool:
    """Whether a path lies in a folder that is being made beside its place."""
    return MARK in str(path.parent)


def _lasts(path: Path, held: dict[Path, State], synced: dict[int, Any]) -> bool:
    inode, state = held[path]
    if isinstance(state, frozenset):
        known = synced.get(inode)  # the system gives a removed file's number to a new folder
        return state <= (known if isinstance(known, frozenset) else frozenset())
    return state[0] == 0 or synced.get(inode) == state


def _entered(path: Path, held: dict[Path, State], synced: dict[int, Any]) -> bool:
    return (path.name, held[path][0]) in synced.get(held[path.parent][0], ())


def _held(root: Path) -> dict[Path, State]:
    return {path: _state(path) for path in (root, *root.rglob("*"))}


def _state(path: Path) -> State:
    status = path.lstat()
    if not path.is_dir():
        return status.st_ino, (status.st_size, status.st_mtime_ns)
    entries = {
        (entry.name, entry.inode()) for entry in os.scandir(path) if entry.name != LOCK and MARK not in entry.name
    }
    return status.st_ino, frozenset(entries)


def _site() -> str:
    """The innermost place of the source that asked for a call, other than `sync` itself."""
    frame = sys._getframe(2)
    while not frame.f_code.co_filename.startswith(_SOURCE) or frame.f_code is files.sync.__code__:
        assert frame.f_back is not None
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).relative_to(_SOURCE)}:{frame.f_code.co_name}:{frame.f_lineno}"
