"""A run's status as lines of text: for `status`, and below the progress line of a run in a terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from inheritune.errors import InherituneError
from inheritune.progress import clock
from inheritune.records.log import rows_of
from inheritune.records.rows import ValidationRow
from inheritune.runs.status import RunStatus, Stage, Standing
from inheritune.words import nouns, show

_WIDTH, _HEIGHT = 48, 5  # columns and lines of the plot
_EVERY = 2.0  # seconds between two looks at the folder


def status_lines(found: RunStatus) -> Iterator[str]:
    """Yield the status of a folder line by line; the lines after the first are indented."""
    yield f"{found.folder}: {found.state}" + ("" if found.state == "finished" else f", {stage_words(found.stage)}")
    if found.model and found.state != "finished":
        yield from (f"  {line}" for line in standing_words(found.model, found.state == "going on"))
    if found.message:
        yield f"  {found.message}"
    if found.goes_on and found.state != "going on":
        yield f"  goes on with: {found.goes_on}"


def stage_words(stage: Stage) -> str:
    """What is being done, and how much of it is done."""
    if stage.done is None:
        return stage.name
    if stage.total is None:
        return f"{stage.name}, {stage.done:,} {nouns(stage.done, stage.unit)} so far"
    share = f" ({100 * stage.done // stage.total}%)" if stage.total else ""
    return f"{stage.name}, {stage.unit} {stage.done:,} of {stage.total:,}{share}"


def standing_words(model: Standing, going_on: bool) -> Iterator[str]:
    """The model's blocks, its last validation, and how fast it goes."""
    yield f"{model.depth} blocks" + (f" ({show(model.blocks)})" if model.blocks else "")
    yield from _validation(model)
    if model.tokens_per_second:
        left = f", {clock(model.seconds_left)} left of this round" if model.seconds_left is not None else ""
        left += f" at a cost of {model.cost_left:,.2f}" if model.cost_left is not None else ""
        memory = f", {model.memory / 1e9:.2f} GB" if model.memory else ""
        yield f"{model.tokens_per_second:,} tokens/s{_used(model)}{left if going_on else ''}{memory}"


def _used(model: Standing) -> str:
    return "" if model.mfu is None else f" (MFU {100 * model.mfu:.0f}%)"


def _validation(model: Standing) -> Iterator[str]:
    if model.val_loss is None:
        return
    line = f"validation loss {model.val_loss:.4f}"
    if model.reference_loss is not None:
        line += f" (reference {model.reference_loss:.4f})"
    if gap := model.gap:
        line += f", gap {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]"
    if after := model.forecast:
        line += f", forecast {after.mean:+.3f} [{after.low:+.3f}, {after.high:+.3f}] after the round"
    yield line


def live_view(standing: Callable[[], Standing | None], log: Path, depth: int | None = None) -> Callable[[], str]:
    """Return a function that shows work in progress, from its folder's files and its metrics `log`, read every two seconds.

    `depth` is that of the reference, whose blocks are drawn.
    """
    shown, looked = "", -_EVERY

    def view() -> str:
        nonlocal shown, looked
        if time.monotonic() - looked >= _EVERY:
            try:
                model = standing()
                shown = "\n".join(_view(model, log, depth)) if model else ""
            except InherituneError:  # whoever needs the file says what is wrong with it
                shown = ""
            looked = time.monotonic()
        return shown

    return view


def _view(model: Standing, log: Path, depth: int | None) -> Iterator[str]:
    facts = [f"{model.depth} blocks" if depth is None else f"{model.depth} of {depth} blocks"]
    if depth is not None and model.blocks:
        facts[0] = f"{''.join('■' if block in model.blocks else '·' for block in range(depth))}  {facts[0]}"
    facts += [] if model.mfu is None else [f"MFU {100 * model.mfu:.0f}%"]
    facts += [] if model.cost_left is None else [f"{model.cost_left:,.2f} to pay to the round's end"]
    facts += [f"{model.memory / 1e9:.2f} GB of memory"] if model.memory else []
    yield ", ".join(facts)
    yield from _validation(model)
    losses = [row.val_loss for row in rows_of(log, ValidationRow) if row.depth == model.depth]
    if len(losses) > 1:
        yield from loss_plot(losses, model.reference_loss)


def loss_plot(losses: Sequence[float], reference: float | None) -> list[str]:
    """Plot validation losses from left to right, one per column, and the reference's as a line, where there is one."""
    shown = [losses[index * len(losses) // _WIDTH] for index in range(_WIDTH)] if len(losses) > _WIDTH else list(losses)
    heights = shown if reference is None else [*shown, reference]
    low, high = min(heights), max(heights)
    line = None if reference is None else _line(reference, low, high)
    grid = [["─" if row == line else " "] * len(shown) for row in range(_HEIGHT)]
    for column, loss in enumerate(shown):
        grid[_line(loss, low, high)][column] = "●"
    marks = {_line(high, low, high): f"{high:.3f}", _line(low, low, high): f"{low:.3f}"}
    if line is not None:
        marks[line] = f"{reference:.3f} reference"
    return [f"{''.join(row)}  {marks.get(number, '')}".rstrip() for number, row in enumerate(grid)]


def _line(loss: float, low: float, high: float) -> int:
    return round((high - loss) / (high - low) * (_HEIGHT - 1)) if high > low else 0
