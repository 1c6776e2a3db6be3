"""`inheritune status`: where runs stand, asked from another terminal."""

from pathlib import Path
from typing import Annotated

import typer


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
    from inheritune.runs.status_words import status_lines

    asked = folders or [str(place.parent) for place in sorted(Path("runs").glob("*/config.yaml"))]
    asked += (
        [] if folders else [str(place.parents[2]) for place in sorted(Path("runs").glob("*/shards/1-of-*/config.yaml"))]
    )
    if not asked:
        raise InputError("there are no run folders in 'runs': name them, as in inheritune status RUN")
    found, unread = [], list[str]()
    for folder in asked:
        try:
            found.append(status(folder))
        except InputError as error:  # told after the others
            unread.append(str(error))
    if as_json:
        print(json.dumps([each.model_dump() for each in found], indent=1))
    else:
        for line in (line for each in found for line in status_lines(each)):
            print(plain(line) if line[:1] != " " else f"  {plain(line)}")
    if unread:
        raise InputError("; ".join(unread))
