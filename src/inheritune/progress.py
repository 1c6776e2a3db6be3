"""Progress display: a live line in a terminal, plain lines in a pipe, nothing when quiet.

Long computations report through a callback: a function of several stages takes a `Tell`, one of a single stage a `Tally`.
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

# Callback (stage, done, total): so many of the parts of the named stage are done.
Tell = Callable[[str, int, int], None]
# Callback (done, total): the same within a single stage.
Tally = Callable[[int, int], None]
LOOK = "a look at the validation documents"
_SECONDS_BETWEEN_LINES = 10.0
_TICK = 1.0  # seconds between two looks at the clock while waiting


def silent(*_: object) -> None:
    """Ignore every report: the default `Tell` and `Tally`."""


class PlainConsole(Console):
    """A rich console that prints text literally: no markup, no emoji names, no terminal control characters.

    If the reader of its output goes away (`| head -1`), the work goes on without output, where rich would end the program.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text literal and harmless; rich passes every string that it prints through here, those of tables too."""
        return super().render_str(harmless(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    def sentence(self, text: str, indent: str = "", style: str = "") -> None:
        """Print a text, wrapped between words in a terminal and not wrapped in a pipe."""
        self.print(Text(self.filled(text, indent), style=style), soft_wrap=True)

    def filled(self, text: str, indent: str = "") -> str:
        """Indent a text and, in a terminal, wrap it to the width without breaking any word, such as a path."""
        if not self.is_terminal:
            return indent + text
        return textwrap.fill(
            text, self.width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )  # fmt: skip

    def on_broken_pipe(self) -> None:
        """Print nothing more, and send what is still buffered to the null device."""
        self.quiet = True
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self.file.fileno())


class Progress:
    """Shows the stages of a command and the state of the current one, on standard error if standard output is for JSON."""

    def __init__(self, quiet: bool = False, to_stderr: bool = False):
        # The stream as it is now: redirecting it later, to silence other libraries' progress bars, must not silence ours.
        file = sys.stderr if to_stderr else sys.stdout
        self.console = PlainConsole(file=file, quiet=quiet)
        self._live: Live | None = None
        self._thread: Thread | None = None
        self._over = Event()
        self._last = 0.0
        self._state, self._said = Text(), ""  # what a terminal shows now, and the last text of `at_once`
        self._counted = ""  # the parts done of what is waited for, as text
        self.view: Callable[[], str] | None = None  # what a terminal shows below the state of the current stage

    def stage(self, text: str) -> None:
        """Begin a stage with a sentence that stays on the screen; the first state of the stage is shown without delay."""
        self._end()
        self._last = 0.0
        self.console.sentence(plain(text), style="bold")
        self.console.file.flush()

    def note(self, text: str) -> None:
        """Print a sentence that stays on the screen, below its stage."""
        self._end()
        self._line(text)

    def goes_on(self, what: str, kept: Path) -> None:
        """Note that `what`, which was stopped, continues, if something was kept of it at the path `kept`."""
        if kept.exists():
            self.note(f"{what} goes on from what was kept of it")

    def now(self, text: str) -> None:
        """Show the state of the current stage: in a terminal it replaces the last one, in a pipe it is a line every ten seconds."""
        if self._thread:
            self._end_wait()
            self._last = 0.0  # so that the first state is shown without delay
        self._show(text)

    def tally(self, what: str) -> Tally:
        """Return a `Tally` that shows, as the state of the current stage, how many parts of `what` are done, if it has several."""

        def count(done: int, total: int) -> None:
            if total > 1:
                self.now(f"{what}: {done:,} of {total:,}")

        return count

    def at_once(self, text: str) -> None:
        """Print a sentence from another thread, without waiting for the thread that shows the state; a terminal shows it below that."""
        if self._live:
            self._said = f"\n  {plain(text)}"
        elif not self.console.quiet:
            with suppress(OSError):  # a stream without a descriptor
                os.write(self.console.file.fileno(), f"  {plain(text)}\n".encode())

    def wait(self, doing: str = "") -> None:
        """Show the time that the stage has taken so far, and what it is `doing`, until the next `now`, `note`, `stage` or `done`."""
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
        """End the live display of the current stage."""
        self._end()

    @contextmanager
    def waiting(self, text: str, parts: str = "parts", first: str = "") -> Iterator[Tally]:
        """Run a block as a stage of unknown length, such as loading a model: show the time so far and the `parts` that are counted.

        Yields the `Tally` that counts the parts; `first` says what is done before any part is counted.
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
    """A `Tell` that shows the progress of each stage of a long measurement: rate and time left, or the time taken so far.

    `early`: a stage may end before all its parts are done, so the time left is shown as an upper bound.
    """

    def __init__(self, progress: Progress, early: bool = False):
        self.progress, self.early, self._stage, self._start = progress, early, "", 0.0

    def __call__(self, stage: str, done: int, total: int, until: float = math.inf) -> None:
        """Report `done` of `total` parts of `stage`, which ends by `until` (monotonic clock); a stage begins when it is first named."""
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
    """Add to a `Tell` or `Tally` the time `until` (monotonic clock) at which the work ends, whether all parts are done or not."""
    shows = tell.func if isinstance(tell, partial) else tell
    return partial(tell, until=until) if isinstance(shows, Rates) else tell


def pace(rate: int, left: int) -> str:
    """Tokens per second, and the time that the tokens `left` take at that rate, as text."""
    return f", {rate:,} tokens/s, {clock(left / max(1, rate))} left"


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
