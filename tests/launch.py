"""Several processes of one launch, forked from the test's own: what torchrun does, without its seconds of start."""

import os
import runpy
import socket
import sys
import traceback
from collections.abc import Callable
from functools import partial


def forked(act: Callable[[], object]) -> int:
    """The number of a forked process that does `act` and exits with 0, or with 1 after an error."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        os._exit(1)
    return child


def launched(count: int, act: Callable[[], object]) -> list[int]:
    """The exit codes (minus the signal of one that was killed) of `count` processes that each do `act`, in the order of their ranks."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])

    def at(rank: int) -> None:
        place = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        os.environ |= {name: str(value) for name, value in place.items()}
        act()

    children = [forked(partial(at, rank)) for rank in range(count)]
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def as_a_module(command: list[str]) -> None:
    """What `python -m inheritune` does."""
    sys.argv = command
    try:
        runpy.run_module("inheritune", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code, ended.code
