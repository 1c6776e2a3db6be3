"""Ctrl-C and SIGTERM while training: acknowledged at once; the step is finished and saved, then the run ends and can be continued."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from inheritune.runtime import processes

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
_SAID, _AGAIN = "Stopping after this step, once it is saved", "; a second signal stops it now, at the last checkpoint"


class StopRequest:
    """Whether somebody asked the process to stop, and with which exit code."""

    code: int | None = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None and processes.count() == 1:
            raise KeyboardInterrupt
        # torchrun passes Ctrl-C on as a second signal, so among several processes a second one ends no step.
        self.code = _CODES[signal.Signals(number)]


@contextmanager
def on_request(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Within the context, turn the first signal into a request and, in a single process, the second into KeyboardInterrupt.

    `say` is told at once, in a thread, that the first was received.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    with _acknowledging(say):
        before = {number: signal.signal(number, stop._ask) for number in _CODES}
        try:
            yield stop
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def _acknowledging(say: Callable[[str], None]) -> Iterator[None]:
    """Within the context, tell `say` of a signal at once.

    A signal handler waits until the main thread comes back from torch, which may take a minute; the byte that a signal writes to the
    wakeup pipe does not.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    said = _SAID + (_AGAIN if processes.count() == 1 else "")

    def listen() -> None:
        heard = os.read(ear, 1)
        while heard and heard[0] not in _CODES:
            heard = os.read(ear, 1)
        if heard:
            say(said)
            processes.end_sums_with_lost(ended)

    listening, ended = threading.Thread(target=listen, daemon=True), threading.Event()
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    listening.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(mouth)
        ended.set()
        listening.join()
        os.close(ear)
