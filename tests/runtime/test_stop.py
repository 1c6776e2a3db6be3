"""A signal while training is heard at once, and acted on after the step."""

import hashlib
import os
import signal
import threading
import time

import pytest

from inheritune.runtime.stop import on_request


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_answered_and_the_second_ends(number: int, code: int) -> None:
    said, threads = list[str](), threading.active_count()
    with pytest.raises(KeyboardInterrupt), on_request(said.append) as stop:
        assert stop.code is None
        signal.raise_signal(number)
        assert stop.code == code
        signal.raise_signal(number)
    assert [line.partition(",")[0] for line in said] == ["Stopping after this step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler and threading.active_count() == threads


def test_it_is_answered_while_the_main_thread_is_in_a_long_computation() -> None:
    """One that Python's handlers have to wait for."""
    heard = list[float]()
    with on_request(lambda _: heard.append(time.monotonic())) as stop:
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGTERM)).start()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 600_000)
        ended = time.monotonic()
        assert stop.code == 143
    assert len(heard) == 1 and heard[0] < ended


def test_nobody_asked_and_nothing_is_said() -> None:
    said, files = list[str](), len(os.listdir("/proc/self/fd"))
    with on_request(said.append) as stop:
        pass
    assert stop.code is None and said == [] and len(os.listdir("/proc/self/fd")) == files
