"""Every write, rename and delete of a run, listed from a traced run, with what a death there would leave on the disk.

`kill -9` loses nothing that the kernel was given, and everything else: so the files as they are at a moment are what a
death at that moment leaves. `traced` takes them before and after each call that changes the disk, and halfway through
each write; `continued` goes on from one of them in a forked process.
"""

import builtins
import functools
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors.torch
from launch import forked

from inheritune.disk import folders

_one_change = (
    threading.RLock()
)  # a checkpoint is written beside a training: what is seen of both is one after the other
Files = dict[str, bytes | None]  # content by path below the root; None for a folder
_CHANGES = ("rename", "replace", "remove", "unlink", "rmdir", "mkdir")


@dataclass(frozen=True)
class Point:
    """A moment of a traced run: what was about to be done, or done, and the files as they were."""

    name: str
    files: Files

    @property
    def digest(self) -> str:
        """Equal for points that leave the same files."""
        seen = hashlib.blake2b()
        for name, content in sorted(self.files.items()):
            seen.update(f"{name} {'folder' if content is None else len(content)} ".encode() + (content or b""))
        return seen.hexdigest()


def files_of(root: Path) -> Files:
    """Every file and folder below `root`."""
    return {str(p.relative_to(root)): None if p.is_dir() else p.read_bytes() for p in sorted(root.rglob("*"))}


def restore(files: Files, root: Path) -> None:
    """Make `root` hold these files and nothing else."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for name, content in files.items():
        (root / name).mkdir(parents=True) if content is None else (root / name).write_bytes(content)


@contextmanager
def watched(root: Path, moment: Callable[[str], None]) -> Iterator[None]:
    """Calls `moment(name)` at every crash point below `root` while the block runs."""
    changes = [patch.object(os, name, _around(getattr(os, name), name, root, moment)) for name in _CHANGES]
    changes.append(patch.object(folders, "_exchange", _around(folders._exchange, "exchange", root, moment)))
    opening = _opening(io.open, root, moment)
    with patch.object(io, "open", opening), patch.object(builtins, "open", opening):
        stored = _around(safetensors.torch.serialize_file, "safetensors", root, moment)
        with patch.object(safetensors.torch, "serialize_file", stored):
            for change in changes:
                change.start()
            try:
                yield
            finally:
                for change in changes:
                    change.stop()


def traced(root: Path, act: Callable[[], Any]) -> list[Point]:
    """Every crash point of `act` below `root`, those that leave the same files once."""
    points: dict[str, Point] = {}

    def moment(name: str) -> None:
        point = Point(name, files_of(root))
        points.setdefault(point.digest, point)

    with watched(root, moment):
        act()
    return list(points.values())


def in_a_fork(act: Callable[[], Any]) -> int:
    """The wait status of a forked process that does `act`."""
    return os.waitpid(forked(act), 0)[1]


def _around(call: Callable[..., Any], name: str, root: Path, moment: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not _below(root, arguments, options):
            return call(*arguments, **options)
        told = f"{name} {_told(root, arguments)}"
        with _one_change:
            moment(f"before {told}")
            given = call(*arguments, **options)
            moment(f"after {told}")
        return given

    return wrapped


def _opening(call: Callable[..., Any], root: Path, moment: Callable[[str], None]) -> Callable[..., Any]:
    @functools.wraps(call)
    def wrapped(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or not _below(root, (file,), {}):
            return call(file, mode, *arguments, **options)
        told = _told(root, (file,))
        with _one_change:
            moment(f"before opening {told}")
            opened = call(file, mode, *arguments, **options)
            moment(f"after opening {told}")
        write = opened.write

        def in_halves(data: Any) -> int:
            with _one_change:
                first = write(data[: len(data) // 2])
                opened.flush()
                moment(f"halfway through {told}")
                return first + write(data[len(data) // 2 :])

        opened.write = in_halves
        return opened

    return wrapped


def _below(root: Path, arguments: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether a call is about something below `root`; one relative to an open folder is a deletion of a tree there."""
    if options.get("dir_fd") is not None:
        return Path(os.readlink(f"/proc/self/fd/{options['dir_fd']}")).is_relative_to(root)
    return any(isinstance(a, str | os.PathLike) and Path(a).absolute().is_relative_to(root) for a in arguments)


def _told(root: Path, arguments: tuple[Any, ...]) -> str:
    paths = [Path(a) for a in arguments if isinstance(a, str | os.PathLike)]
    return " to ".join(str(p.relative_to(root)) if p.is_relative_to(root) else str(p) for p in paths)
