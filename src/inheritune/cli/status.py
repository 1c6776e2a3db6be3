"""`inheritune status`: where runs stand, asked from another terminal."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inheritune.runs.status import RunStatus, Stage, Standing


def command(
    folders: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]…", help="Run folders; without one, all in runs/.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects as JSON.")] = False,
) -> None:
    """Say how far runs, trainings and comparisons are, also stopped and killed ones. It reads only."""
    import json

    from inheritune.comparison.status import status
    from inheritune.errors import InputError, plain

    asked = folders or [str(place.parent) for place in sorted(Path("runs").glob("*/config.yaml"))]
    asked += (
        [] if folders else [str(place.parents[2]) for place in sorted(Path("runs").glob("*/shards/1-of-*/config.yaml"))]
    )
    if not asked:
        raise InputError("there are no run folders in 'runs': name them, as in inheritune status RUN")
    found = [status(folder) for folder in asked]
    if as_json:
        print(json.dumps([each.model_dump() for each in found], indent=1))
        return
    for each in found:
        for line in _lines(each):
            print(plain(line) if line[:1] != " " else f"  {plain(line)}")


def _lines(found: "RunStatus") -> Iterator[str]:
    yield f"{found.folder}: {found.state}" + ("" if found.state == "finished" else f", {_stage(found.stage)}")
    if found.model and found.state != "finished":
        yield from (f"  {line}" for line in _model(found.model, found.state == "going on") if line)
    if found.message:
        yield f"  {found.message}"
    if found.goes_on and found.state != "going on":
        yield f"  goes on with: {found.goes_on}"


def _stage(stage: "Stage") -> str:
    from inheritune.words import nouns

    if stage.done is None:
        return stage.name
    if stage.total is None:
        return f"{stage.name}, {stage.done:,} {nouns(stage.done, stage.unit)} so far"
    share = f" ({100 * stage.done // stage.total}%)" if stage.total else ""
    return f"{stage.name}, {stage.unit} {stage.done:,} of {stage.total:,}{share}"


def _model(model: "Standing", going_on: bool) -> Iterator[str]:
    from inheritune.progress import clock
    from inheritune.words import show

    yield f"{model.depth} blocks" + (f" ({show(model.blocks)})" if model.blocks else "")
    if model.val_loss is not None:
        line = f"validation loss {model.val_loss:.4f}"
        if model.reference_loss is not None:
            line += f" (reference {model.reference_loss:.4f})"
        if gap := model.gap:
            line += f", gap {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
        if after := model.forecast:
            line += f", forecast {after.mean:+.3f} [{after.low:+.3f}, {after.high:+.3f}] after the round"
        yield line
    if model.tokens_per_second:
        left = f", {clock(model.seconds_left)} left of this round" if model.seconds_left is not None else ""
        memory = f", {model.memory / 1e9:.2f} GB" if model.memory else ""
        yield f"{model.tokens_per_second:,} tokens/s{left if going_on else ''}{memory}"
