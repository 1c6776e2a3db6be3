"""A run is a folder: opened for one recipe, held by one process, its files written whole or not at all."""

import errno
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from pydantic import BaseModel
from safetensors import SafetensorError

from inheritune.config.loading import to_yaml
from inheritune.config.recipes import MAY_CHANGE
from inheritune.config.strict_yaml import read_file, read_yaml
from inheritune.errors import InputError, OutputError, RecipeError
from inheritune.runtime import processes

_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.ENOTDIR: "move the file that stands in place of the folder",
    errno.EEXIST: "move the file that stands in place of the folder",
    errno.EISDIR: "move the folder that stands in place of the file",
}
_SCHEDULE = "training.schedule"
_AT_FIRST = (".lock", ".config.yaml.partial")  # what a run that died at its very start has left
Value = TypeVar("Value")
_locks: dict[Path, TextIO] = {}


def open_folder(path: Path, recipe: BaseModel) -> Path:
    """Make or reopen a run folder for `recipe`; OutputError if it belongs to another recipe, run or thing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        config = path / "config.yaml"
        if not config.exists() and any(entry.name not in _AT_FIRST for entry in path.iterdir()):
            raise OutputError(f"{str(path)!r} is not empty and is no run folder: name another with --out")
        _lock(path)
        try:
            refuse_another(path, recipe)
            write_text(config, to_yaml(recipe))
        except BaseException:
            close_folder(path)
            raise
    except OSError as error:
        raise OutputError(refusal(error, path)) from None
    return path


def refuse_another(path: Path, recipe: BaseModel) -> None:
    """OutputError if the folder is that of a run by another recipe."""
    config = path / "config.yaml"
    if config.exists():
        _same(path, read_yaml(read_file(config), repr(str(config))), recipe.model_dump(mode="json"))


@contextmanager
def left_if_used(path: Path) -> Iterator[None]:
    """Where the input turns out to be of no use, a folder that holds nothing but its recipe goes."""
    try:
        yield
    except InputError:
        if path.resolve() in _locks and {entry.name for entry in path.iterdir()} <= {".lock", "config.yaml"}:
            shutil.rmtree(path, ignore_errors=True)
        raise


def close_folder(path: Path) -> None:
    """Let another process use the folder."""
    if lock := _locks.pop(path.resolve(), None):
        lock.close()


def refusal(error: OSError, place: Path | None = None, verb: str = "written") -> str:
    """The sentence for what the disk refused, about the file that the error names or else `place`."""
    named = error.filename or place or "a file"
    remedy = _REMEDIES.get(error.errno or 0, "choose another place, or give yourself the right to it")
    return f"{str(named)!r} cannot be {verb}: {error.strerror or error}: {remedy}, and give the same command again"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Whatever the disk refuses meanwhile is an OutputError, and nothing half-written stays in the folder."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        for half in [*folder.rglob(".*.partial"), *folder.rglob("*.part")]:
            shutil.rmtree(half, ignore_errors=True) if half.is_dir() else half.unlink(missing_ok=True)
        raise OutputError(refusal(_as_oserror(error), folder)) from None


def _as_oserror(error: OSError | SafetensorError) -> OSError:
    if isinstance(error, OSError):
        return error
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place, then move it there."""
    beside = path.with_name(f".{path.name}.partial")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        error.filename = str(path)
        raise


def once(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The JSON object at `path`; computed and written first if it is not there, so that a continued run does not repeat it.

    Of several processes the main one computes, and the others wait for what it writes.
    """

    def write() -> None:
        if not path.exists():
            write_text(path, json.dumps(compute(), indent=1))

    processes.on_main(write)
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
    here, there = _flat(found), _flat(wanted)
    for key in sorted({*here, *there}):
        if here.get(key) != there.get(key) and not _may_change(key) and not _goes_on(key, here, there):
            raise RecipeError(
                f"{str(path)!r} holds a run with {key} = {_short(here.get(key))}, and this recipe says"
                f" {_short(there.get(key))}: {_why(key, here, there)}name another --out"
            )


def _may_change(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def _goes_on(key: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    """More tokens for a run whose learning rate has not fallen, or fell late: what went before is the longer run's beginning."""
    return _longer(key, here, there) and here.get(_SCHEDULE) == there.get(_SCHEDULE) in ("constant", "wsd")


def _longer(key: str, here: dict[str, Any], there: dict[str, Any]) -> bool:
    return key == "training.tokens" and "model.model_type" in here and here[key] < there.get(key, 0)


def _why(key: str, here: dict[str, Any], there: dict[str, Any]) -> str:
    if not _longer(key, here, there):
        return ""
    return (
        f"under {_SCHEDULE} = {here.get(_SCHEDULE)} every step's rate follows from the tokens, so the steps done would have had"
        " other rates; `wsd` and `constant` can be given more; "
    )


def _short(value: Any) -> str:
    return repr(value)[:100]


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
