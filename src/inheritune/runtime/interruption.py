"""SIGTERM outside training: it ends a command as Ctrl-C does, so that locks are let go and what was half made is cleared away."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from inheritune.errors import Interrupted


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised where the work stood."""


def exit_code(error: KeyboardInterrupt) -> int:
    """What a process ends with that was stopped so."""
    return 143 if isinstance(error, Terminated) else 130


@contextmanager
def stop_said(said: str) -> Iterator[None]:
    """Say of a stop while the block runs what it leaves behind, in these words."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped: {said}", exit_code(error)) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated at SIGTERM while the block runs; of a launch's processes in the first alone, which speaks for all."""
    if threading.current_thread() is not threading.main_thread() or os.environ.get("RANK", "0") != "0":
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated
