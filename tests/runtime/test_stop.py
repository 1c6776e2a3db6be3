"""A signal while training is heard at once, and acted on after the step."""

import os
import signal
import threading

import pytest

from inheritune.runtime.stop import on_request


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_answered_and_the_second_ends(number: int, code: int) -> None:
    said, threads = list[str](), threading.enumerate()
    with pytest.raises(KeyboardInterrupt), on_request(said.append) as stop:
        assert stop.code is None
        signal.raise_signal(number)
        assert stop.code == code
        signal.raise_signal(number)
    assert [line.partition(",")[0] for line in said] == ["Stopping after this step"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert set(threading.enumerate()) <= set(threads)


def test_it_is_answered_while_the_main_thread_is_in_a_long_computation() -> None:
    """One that Python's handlers have to wait for: here a wait for the answer itself, and the signal comes to another thread."""
    answered = threading.Event()
    asking = threading.Timer(0.05, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
    with on_request(lambda _: answered.set()) as stop:
        asking.start()
        assert answered.wait(60)
        asking.join()
        assert stop.code == 143


def test_nobody_asked_and_nothing_is_said() -> None:
    said, files = list[str](), os.listdir("/proc/self/fd")
    with on_request(said.append) as stop:
        pass
    assert stop.code is None and said == [] and set(os.listdir("/proc/self/fd")) <= set(files), "no file stays open"
