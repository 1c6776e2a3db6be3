"""Ctrl-C and SIGTERM while training: the step is finished and saved, then the run ends so that it can go on."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from inheritune.runtime import processes

_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


_SAID, _AGAIN = "Stopping after this step, once it is saved", "; a second signal stops it now, at the last checkpoint"


class StopRequest:
    """Whether somebody asked the process to stop, and with which exit code. `say` is told of it at once, within the signal's handler."""

    def __init__(self, say: Callable[[str], None]):
        self.say = say
        self.code: int | None = None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.code is not None and processes.count() == 1:
            raise KeyboardInterrupt
        # torchrun passes Ctrl-C on as a second signal: there it ends no step.
        self.code = _CODES[signal.Signals(number)]
        self.say(_SAID + (_AGAIN if processes.count() == 1 else ""))


@contextmanager
def on_request(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turn the first signal into a request and, in a single process, the second into KeyboardInterrupt, while the block runs."""
    stop = StopRequest(say)
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop._ask) for number in _CODES}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
