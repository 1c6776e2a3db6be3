"""The command that goes on with what stands in a folder: the same where a stop tells it and where `status` does."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inheritune.config.recipes import RECIPES, CompareRecipe, RunRecipe, TrainRecipe
from inheritune.errors import Interrupted
from inheritune.runtime.launch import Launch

_NOTE = "it goes on with: "
Whole = RunRecipe | TrainRecipe | CompareRecipe


def command_of(place: Path, recipe: type[Whole], processes: int = 1) -> str:
    """The command for the folder whose config.yaml is a `recipe`: that of a run, of a training, or of a comparison's shard."""
    folder, shard = place, list[str]()
    if recipe is CompareRecipe:
        folder, (number, _, count) = place.parent.parent, place.name.partition("-of-")
        shard = [] if count == "1" else ["--shard", f"{number}/{count}"]
    command = next(name for name, kind in RECIPES.items() if kind is recipe)
    told = shlex.join([command, str(place / "config.yaml"), "--out", str(folder), *shard])
    return f"{launched_as(processes > 1)} {told}"


def launched_as(several: bool) -> str:
    """The words before a command: those of a launch where several processes work together."""
    return "torchrun … -m inheritune" if several else "inheritune"


@contextmanager
def noting_how(place: Path, recipe: Whole) -> Iterator[None]:
    """Note on a stop, as it passes, the command that goes on in `place`."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        error.add_note(_NOTE + command_of(place, type(recipe), Launch.told().count))
        raise


def noted(error: BaseException) -> str | None:
    """The command that was noted on a stop; None where it came before there was a folder to go on in."""
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith(_NOTE)]
    return notes[-1].removeprefix(_NOTE) if notes else None
