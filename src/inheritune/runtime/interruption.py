"""SIGTERM outside training: it ends a command as Ctrl-C does, so that locks are released and half-made files are removed."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from inheritune.errors import Interrupted


class Terminated(KeyboardInterrupt):
    """SIGTERM, raised as an exception wherever the work is."""


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of a process that was stopped so."""
    return 143 if isinstance(error, Terminated) else 130


@contextmanager
def stop_said(said: str) -> Iterator[None]:
    """Within the context, turn a stop into Interrupted, whose message says in these words what it leaves behind."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(f"stopped: {said}", exit_code(error)) from None


@contextmanager
def terminable() -> Iterator[None]:
    """Within the context, raise Terminated at SIGTERM; in a torchrun launch only in the first process, which speaks for all."""
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
