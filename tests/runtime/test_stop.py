"""A signal while training is heard at once, and acted on after the step."""

import signal

import pytest

from inheritune.runtime.stop import on_request


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_acknowledged_within_its_handler_and_the_second_ends(number: int, code: int) -> None:
    said = list[str]()
    with pytest.raises(KeyboardInterrupt), on_request(said.append) as stop:
        assert stop.code is None and not said
        signal.raise_signal(number)
        assert stop.code == code and [line.partition(",")[0] for line in said] == ["Stopping after this step"]
        signal.raise_signal(number)
    assert len(said) == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
