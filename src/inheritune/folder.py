"""A run is a folder: opened for one recipe, held by one process, its files written whole or not at all."""

import fcntl
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel

from inheritune.config import read_yaml, to_yaml
from inheritune.errors import OutputError, RecipeError

# What may change when a run is continued: it moves the end of the run, not a step of it.
_MAY_CHANGE = ("limits", "controls")
Value = TypeVar("Value")
_locks: dict[Path, TextIO] = {}


def open_folder(path: Path, recipe: BaseModel) -> Path:
    """Make or reopen a run folder for `recipe`; OutputError if it belongs to another recipe, run or thing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        config = path / "config.yaml"
        if not config.exists() and any(entry.name != ".lock" for entry in path.iterdir()):
            raise OutputError(f"{str(path)!r} is not empty and is no run folder: name another with --out")
        _lock(path)
        try:
            if config.exists():
                _same(path, read_yaml(config.read_text(encoding="utf-8")), recipe.model_dump(mode="json"))
            write_text(config, to_yaml(recipe))
        except BaseException:
            close_folder(path)
            raise
    except OSError as error:
        raise OutputError(f"the run folder {str(path)!r} cannot be written: {error.strerror}") from None
    return path


def close_folder(path: Path) -> None:
    """Let another process use the folder."""
    if lock := _locks.pop(path.resolve(), None):
        lock.close()


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place, then move it there."""
    beside = path.with_name(f".{path.name}.partial")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def once(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON object at `path`; computed and written first if it is not there, so that a continued run does not repeat it."""
    if not path.exists():
        write_text(path, json.dumps(compute(), indent=1))
    return json.loads(path.read_text(encoding="utf-8"))


def timed(compute: Callable[[], Value]) -> tuple[Value, float]:
    """What a computation gives, and the seconds it took."""
    began = time.perf_counter()
    return compute(), time.perf_counter() - began


def _lock(path: Path) -> None:
    lock = (path / ".lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise OutputError(
            f"another run is going on in {str(path)!r}: wait for it, or name another folder with --out"
        ) from None
    _locks[path.resolve()] = lock


def _same(path: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for key in sorted({*_flat(found), *_flat(wanted)}):
        here, there = _flat(found).get(key), _flat(wanted).get(key)
        if here != there and key.split(".")[0] not in _MAY_CHANGE:
            raise RecipeError(
                f"{str(path)!r} holds a run with {key} = {here!r}, and this recipe says {there!r}: name another --out"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
