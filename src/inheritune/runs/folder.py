"""A run is a folder: opened for one recipe, held by one process, its files written whole or not at all."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from inheritune.config.loading import to_yaml
from inheritune.config.recipes import MAY_CHANGE
from inheritune.config.strict_yaml import read_file, read_yaml
from inheritune.disk.files import left_of, refusal, write_text
from inheritune.disk.folders import sweep
from inheritune.disk.locks import LOCK, HeldFolder, hold
from inheritune.errors import InputError, OutputError, RecipeError
from inheritune.records.entry import JsonFile
from inheritune.records.estimate import RunEstimate
from inheritune.records.made_of import MadeOf
from inheritune.records.stages import Launched
from inheritune.runtime import processes
from inheritune.runtime.launch import Launch

CONFIG = "config.yaml"
_SCHEDULE = "training.schedule"
BEFORE_BOUND = (CONFIG, Launched.NAME, RunEstimate.NAME)  # what stands in a folder before it is bound to its content
_BEGINNING = (*BEFORE_BOUND, MadeOf.NAME)  # and before its work
_Value = TypeVar("_Value")
Stored = TypeVar("Stored", bound=JsonFile)
_held: dict[Path, HeldFolder] = {}


@contextmanager
def holding(path: Path, recipe: BaseModel) -> Iterator[None]:
    """Hold a run folder for `recipe` during a `with` block, in the main process only. Raises what `open_folder` raises."""
    processes.on_main(lambda: open_folder(path, recipe))
    try:
        yield
    finally:
        close_folder(path)


def open_folder(path: Path, recipe: BaseModel) -> Path:
    """Make or reopen a run folder for `recipe`. Raises RecipeError if it belongs to another recipe, OutputError if it is no run folder or cannot be written."""
    try:
        if path.is_dir() and not (path / CONFIG).exists() and not _begun({entry.name for entry in path.iterdir()}):
            raise OutputError(f"{str(path)!r} is not empty and is no run folder: name another with --out")
        _hold(path)
        try:
            sweep(path)
            refuse_another(path, recipe)
            if not (path / CONFIG).exists() and (count := Launch.told().count) > 1:
                Launched(processes=count).save(path / Launched.NAME)
            write_text(path / CONFIG, to_yaml(recipe))
        except BaseException:
            close_folder(path)
            raise
    except OSError as error:
        raise OutputError(refusal(error, path)) from None
    return path


def refuse_another(path: Path, recipe: BaseModel) -> None:
    """Raise RecipeError if the folder is that of a run by another recipe."""
    config = path / CONFIG
    if not config.exists():
        return
    recipes = _Recipes(read_yaml(read_file(config), repr(str(config))), recipe.model_dump(mode="json"))
    for key in recipes.refused():
        raise RecipeError(
            f"{str(path)!r} holds a run with {key} = {_short(recipes.begun.get(key))}, and this recipe says"
            f" {_short(recipes.wanted.get(key))}: {recipes.why(key)}name another --out"
        )


@contextmanager
def left_if_used(path: Path) -> Iterator[None]:
    """Remove a run folder that holds nothing but its recipe, its plan and what it is bound to, if the input turns out to be unusable."""
    try:
        yield
    except InputError:
        if path.resolve() in _held and {entry.name for entry in path.iterdir()} <= {LOCK, *_BEGINNING}:
            for name in _BEGINNING:
                (path / name).unlink(missing_ok=True)
            close_folder(path)
        raise


def close_folder(path: Path) -> None:
    """Let other processes use the folder. A folder that was made for a run and holds nothing is removed."""
    if held := _held.pop(path.resolve(), None):
        held.release()


def once(kind: type[Stored], path: Path, compute: Callable[[], Stored], *, together: bool = False) -> Stored:
    """The record at `path`. If it is not there, it is computed and written first, so that a continued run does not compute it again.

    With several processes the main one computes, and the others wait for the file, or all compute `together` and the main one
    writes. Raises OutputError if the file is damaged.
    """

    def write() -> None:
        if not path.exists():
            compute().save(path)

    if together and not processes.agreed(path.exists()):
        found = compute()
        processes.on_main(lambda: found.save(path))
    else:
        processes.on_main(write)
    return kind.load(path)


def timed(compute: Callable[[], _Value]) -> tuple[_Value, float]:
    """What a computation gives, and the seconds it took."""
    began = time.perf_counter()
    return compute(), time.perf_counter() - began


def _begun(names: set[str]) -> bool:
    """Whether a folder without a recipe is empty, or that of a run that died at its very start."""
    return all(name in (LOCK, Launched.NAME) or left_of(name) in (CONFIG, Launched.NAME) for name in names)


def _hold(path: Path) -> None:
    held = hold(path)
    if held is None:
        raise OutputError(f"another run is going on in {str(path)!r}: wait for it, or name another folder with --out")
    _held[path.resolve()] = held


class _Recipes:
    """The recipe that a folder was begun with, and the one that it is to continue with, each as dotted keys and their values."""

    def __init__(self, begun: object, wanted: object):
        self.begun, self.wanted = dict(_leaves(begun)), dict(_leaves(wanted))

    def refused(self) -> list[str]:
        """The keys that differ and may not."""
        differing = (key for key in {*self.begun, *self.wanted} if self.begun.get(key) != self.wanted.get(key))
        return sorted(key for key in differing if not _may_change(key) and not self._goes_on(key))

    def _goes_on(self, key: str) -> bool:
        """Whether `key` gives more tokens to a training whose rate stays constant or falls late: its steps so far then stay as they are."""
        schedule = self.begun.get(_SCHEDULE)
        return self._longer(key) and schedule == self.wanted.get(_SCHEDULE) in ("constant", "wsd")

    def _longer(self, key: str) -> bool:
        before, after = self.begun.get(key), self.wanted.get(key, 0)
        trains = key == "training.tokens" and "model.model_type" in self.begun
        return trains and isinstance(before, int) and isinstance(after, int) and before < after

    def why(self, key: str) -> str:
        """Say why a longer training may not continue here; empty for other keys."""
        if not self._longer(key):
            return ""
        return (
            f"under {_SCHEDULE} = {self.begun.get(_SCHEDULE)} every step's rate follows from the tokens, so the steps done would have had"
            " other rates; `wsd` and `constant` can be given more; "
        )


def _may_change(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in MAY_CHANGE)


def _short(value: object) -> str:
    return repr(value)[:100]


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys of a tree of mappings, with what stands there."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, below in value.items():
        yield from _leaves(below, f"{key}.{name}" if key else name)
