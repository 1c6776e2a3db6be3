"""The command that continues the work in a folder: the same one after a stop and in `status`."""

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
    """Return the command that continues the folder `place`, whose config.yaml is a `recipe`: a run, a training, or a comparison's shard."""
    folder, shard = place, list[str]()
    if recipe is CompareRecipe:
        folder, (number, _, count) = place.parent.parent, place.name.partition("-of-")
        shard = [] if count == "1" else ["--shard", f"{number}/{count}"]
    command = next(name for name, kind in RECIPES.items() if kind is recipe)
    told = shlex.join([command, str(place / "config.yaml"), "--out", str(folder), *shard])
    return f"{launched_as(processes > 1)} {told}"


def launched_as(several: bool) -> str:
    """The words before a command: `inheritune`, or a torchrun launch where several processes work together."""
    return "torchrun … -m inheritune" if several else "inheritune"


@contextmanager
def noting_how(place: Path, recipe: Whole) -> Iterator[None]:
    """Add to the exception of a stop, as it passes, a note of the command that continues in `place`."""
    try:
        yield
    except (Interrupted, KeyboardInterrupt) as error:
        error.add_note(_NOTE + command_of(place, type(recipe), Launch.told().count))
        raise


def noted(error: BaseException) -> str | None:
    """The command that was noted on a stop; None if the stop came before there was a folder to continue in."""
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith(_NOTE)]
    return notes[-1].removeprefix(_NOTE) if notes else None
