"""What a person sees while work goes on: a live line in a terminal, plain lines in a pipe, nothing when quiet.

Whatever takes long is told of in one way: a function of several stages takes a `Tell`, one of a single stage a `Tally`.
"""

import math
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from inheritune.errors import plain
from inheritune.words import harmless

# Called with the name of a stage, and how many of how many parts of it are done.
Tell = Callable[[str, int, int], None]
# The same within one stage: how many of how many parts are done.
Tally = Callable[[int, int], None]
LOOK = "a look at the validation documents"
_SECONDS_BETWEEN_LINES = 10.0
_TICK = 1.0  # seconds between two looks at the clock while waiting


def silent(*_: object) -> None:
    """Tell nobody."""


class PlainConsole(Console):
    """One to which text means only itself: no markup, no emoji names, no characters that command a terminal.

    Its reader may go (`| head -1`): the work goes on untold, where rich would end it.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed, those of a table and its title too, comes through here."""
        return super().render_str(harmless(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    def sentence(self, text: str, indent: str = "", style: str = "") -> None:
        """Print a text whose lines end between words in a terminal, and nowhere in a pipe."""
        self.print(Text(self.filled(text, indent), style=style), soft_wrap=True)

    def filled(self, text: str, indent: str = "") -> str:
        """A text with its indent: in a terminal in lines that fit, of which no word is broken, a path for example."""
        if not self.is_terminal:
            return indent + text
        return textwrap.fill(
            text, self.width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip

    def on_broken_pipe(self) -> None:
        """Say no more, and let what is still held back lead nowhere."""
        self.quiet = True
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())


class Progress:
    """Stages and the state of the current one. It writes to standard error where standard output is for JSON."""

    def __init__(self, quiet: bool = False, to_stderr: bool = False):
        # The stream as it is now: what others' progress bars are kept from must not keep ours away.
        file = sys.stderr if to_stderr else sys.stdout
        self.console = PlainConsole(file=file, quiet=quiet)
        self._live: Live | None = None
        self._thread: Thread | None = None
        self._over = Event()
        self._last = 0.0
        self._state, self._said = Text(), ""  # what a terminal shows now, and what was said at once
        self._counted = ""  # how many of how many parts are done of what is waited for
        self.view: Callable[[], str] | None = None  # what a terminal shows below the state of the current stage

    def stage(self, text: str) -> None:
        """Begin a stage, with a sentence that stays; what it first tells of its state is shown at once."""
        self._end()
        self._last = 0.0
        self.console.sentence(plain(text), style="bold")
        self.console.file.flush()

    def note(self, text: str) -> None:
        """A sentence that stays, below its stage."""
        self._end()
        self._line(text)

    def goes_on(self, what: str, kept: Path) -> None:
        """Say of what was stopped that it continues, where something is kept of it."""
        if kept.exists():
            self.note(f"{what} goes on from what was kept of it")

    def now(self, text: str) -> None:
        """The state of the current stage: replaces itself in a terminal, a line each ten seconds in a pipe."""
        if self._thread:
            self._end_wait()
            self._last = 0.0  # what is first told of its state is shown at once
        self._show(text)

    def tally(self, what: str) -> Tally:
        """One that shows how many parts are done of `what`, which is done within the current stage and has more than one."""

        def count(done: int, total: int) -> None:
            if total > 1:
                self.now(f"{what}: {done:,} of {total:,}")

        return count

    def at_once(self, text: str) -> None:
        """Say a sentence from another thread, without waiting for whoever tells the state: a terminal shows it below that."""
        if self._live:
            self._said = f"\n  {plain(text)}"
        elif not self.console.quiet:
            with suppress(OSError):  # a stream without a descriptor
                os.write(self.console.file.fileno(), f"  {plain(text)}\n".encode())

    def wait(self, doing: str = "") -> None:
        """Show the time that the stage has taken so far, and what it is `doing`, until its state is told, or another stage, or `done`."""
        self._end_wait()
        self._counted = f", {doing}" if doing else ""
        began = self._last = time.monotonic()
        over = self._over = Event()

        def keep_showing() -> None:
            self._show(f"{clock(time.monotonic() - began)} so far{self._counted}")
            while not over.wait(_TICK):
                self._show(f"{clock(time.monotonic() - began)} so far{self._counted}")

        self._thread = Thread(target=keep_showing, daemon=True)
        self._thread.start()

    def done(self) -> None:
        """The current stage has no more to tell."""
        self._end()

    @contextmanager
    def waiting(self, text: str, parts: str = "parts", first: str = "") -> Iterator[Tally]:
        """A stage whose time cannot be told, such as loading a model: it shows the time so far, and of its `parts` what the tally is told.

        `first` is what is done before these are counted.
        """
        self.stage(text)
        self.wait(first)

        def count(done: int, total: int) -> None:
            self._counted = f", {done:,} of {total:,} {parts}"

        try:
            yield count
        finally:
            self.done()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._end()

    def _line(self, text: str) -> None:
        self.console.sentence(plain(text), "  ")
        self.console.file.flush()

    def _show(self, text: str) -> None:
        if self.console.is_terminal:
            state = self.console.filled(plain(text), "  ")
            self._state = Text(state, style="cyan").append(self._below(), style="default")
            self._live = self._live or self._begin_live()
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self._line(text)

    def _below(self) -> str:
        lines = self.view().splitlines() if self.view else []
        return "".join(f"\n{self.console.filled(harmless(line), '  ')}" for line in lines)

    def _end(self) -> None:
        self._end_wait()
        if self._live:
            self._live.stop()
            self._live, self._said = None, ""

    def _end_wait(self) -> None:
        if self._thread:
            self._over.set()
            self._thread.join()
            self._thread = None

    def _begin_live(self) -> Live:
        live = Live(
            console=self.console, refresh_per_second=4, transient=True,
            get_renderable=lambda: Text.assemble(self._state, (self._said, "bold")),
        )  # fmt: skip
        live.start()
        return live


class Rates:
    """A `Tell` that shows how far each stage of a long measurement is: its rate and the time left, or the time that it has taken.

    `early`: a stage may end before all its parts are done, so that the time left is the most that it may take.
    """

    def __init__(self, progress: Progress, early: bool = False):
        self.progress, self.early, self._stage, self._start = progress, early, "", 0.0

    def __call__(self, stage: str, done: int, total: int, until: float = math.inf) -> None:
        """`done` of `total` parts of `stage`, which ends `until` then, on the monotonic clock; a stage begins when it is first named."""
        if stage != self._stage:
            self._stage, self._start = stage, time.monotonic()
            self.progress.stage(stage)
            self.progress.wait()
        if done and total > 1:
            rate = done / max(time.monotonic() - self._start, 1e-6)
            left, most = (total - done) / rate, max(0.0, until - time.monotonic())
            bound = "at most " if self.early or most < left else ""
            self.progress.now(f"{done} of {total}, {rate:.3g} a second, {bound}{clock(min(left, most))} left")
        if done >= total:
            self.progress.done()


def ending(tell: Callable[..., None], until: float) -> Callable[..., None]:
    """A `Tell` or `Tally` of what ends `until` then, on the monotonic clock, with all of its parts or not."""
    shows = tell.func if isinstance(tell, partial) else tell
    return partial(tell, until=until) if isinstance(shows, Rates) else tell


def pace(rate: int, left: int) -> str:
    """Tokens a second, and the time that so many more take."""
    return f", {rate:,} tokens/s, {clock(left / max(1, rate))} left"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
