"""`inheritune report`: a run's page, made or made anew; or several runs beside each other."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Run folders, finished or not.")],
    compare: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Set the runs beside each other: DIR/compare.html.")
    ] = None,
    svg: Annotated[bool, typer.Option("--svg", help="Also save each figure, as RUN/figures/NAME.svg.")] = False,
) -> None:
    """Make the page of a run from its folder's files alone, also of one that was stopped."""
    from inheritune.progress import PlainConsole
    from inheritune.report.beside import write_beside
    from inheritune.report.page import write_report, write_svgs

    console = PlainConsole(soft_wrap=True)
    if compare is not None:
        console.print(str(write_beside(runs, compare)))
        return
    for run in runs:
        console.print(str(write_report(run, *_standing(run))))
        for figure in write_svgs(run) if svg else []:
            console.print(str(figure))


def _standing(run: Path) -> tuple[list[str], str | None]:
    """The lines of `status` for an unfinished run, and its state; empty and None where its files do not tell."""
    from inheritune.comparison.status import status
    from inheritune.errors import InputError
    from inheritune.runs.status_words import status_lines

    try:
        found = status(run)
    except InputError:  # the page says what could not be read
        return [], None
    lines = [] if found.state == "finished" else [line.strip() for line in status_lines(found)]
    return lines, found.state
