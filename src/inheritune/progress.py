"""What a person sees while work goes on: a live line in a terminal, plain lines in a pipe, nothing when quiet."""

import sys
import time

from rich.console import Console
from rich.live import Live
from rich.text import Text

from inheritune.errors import plain

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Stages and the state of the current one. It writes to standard error where standard output is for JSON."""

    def __init__(self, quiet: bool = False, to_stderr: bool = False):
        self.console = Console(stderr=to_stderr, quiet=quiet, soft_wrap=True, highlight=False)
        self._live: Live | None = None
        self._last = 0.0

    def stage(self, text: str) -> None:
        """Begin a stage, with a sentence that stays."""
        self._end_live()
        self.console.print(Text(plain(text), style="bold"))
        self._flush()

    def note(self, text: str) -> None:
        """A sentence that stays, below its stage."""
        self._end_live()
        self.console.print(Text(f"  {plain(text)}"))
        self._flush()

    def now(self, text: str) -> None:
        """The state of the current stage: replaces itself in a terminal, a line each ten seconds in a pipe."""
        if self.console.is_terminal:
            self._live = self._live or self._begin_live()
            self._live.update(Text(f"  {plain(text)}", style="cyan"))
        elif time.monotonic() - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            self.note(text)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._end_live()

    def _begin_live(self) -> Live:
        live = Live(console=self.console, refresh_per_second=4, transient=True)
        live.start()
        return live

    def _end_live(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _flush(self) -> None:
        (sys.stderr if self.console.stderr else sys.stdout).flush()


class Rates:
    """How far each stage of a long measurement is, for callers that say (stage, done, total): rate and time left."""

    def __init__(self, progress: Progress):
        self.progress, self._stage, self._start = progress, "", 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` parts of `stage`; a stage begins when it is first named."""
        if stage != self._stage:
            self._stage, self._start = stage, time.monotonic()
            self.progress.stage(stage)
        if done:
            rate = done / max(time.monotonic() - self._start, 1e-6)
            self.progress.now(f"{done} of {total}, {rate:.3g} a second, {clock((total - done) / rate)} left")


def clock(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
