"""Several processes of one launch, forked from the test's own: what torchrun does, without its seconds of start."""

import os
import runpy
import secrets
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
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


def free_port() -> int:
    """One that nobody has, below those that the system gives to whoever takes any: nobody gets it before it is used."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def launched(count: int, act: Callable[[], object]) -> list[int]:
    """The exit codes (minus the signal of one that was killed) of `count` processes that each do `act`, in the order of their ranks."""
    port = free_port()

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
