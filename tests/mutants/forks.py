"""Tests in forked processes that have the libraries loaded, and ours not, so that each fork sees our sources as they are."""

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_TRAINS = "tests/training/test_golden.py"  # it brings what torch loads when it is first asked for
PASSED = (0, 5)  # pytest's exit codes where no test fails; 5: all of them are skipped


def load(copy: Path) -> None:
    """Load every library that our tests load, once for all forks; one thread, so that forking is safe."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    for name in ("pytest", "hypothesis", "torch", "transformers", "datasets", "matplotlib.pyplot"):
        import_module(name)
    place = copy / "modules.json"

    def told() -> int:
        sys.dont_write_bytecode = False  # for the forks to come
        code = run_tests(copy, ["tests", "--collect-only"]) or run_tests(copy, [_TRAINS])
        place.write_text(json.dumps([name for name, held in list(sys.modules.items()) if _is_foreign(held, copy)]))
        return code

    code, said = forked(told, limit=1800)
    assert code == 0, said
    for name in json.loads(place.read_text()):
        try:
            import_module(name)
        except Exception:  # it is no module by itself, or asks for another to be there first
            continue
    import torch

    torch.set_num_threads(1)


def _is_foreign(module: Any, copy: Path) -> bool:
    file = getattr(module, "__file__", None)
    return bool(file) and not Path(file).is_relative_to(copy)


def run_tests(copy: Path, arguments: list[str], plugins: tuple[object, ...] = ()) -> int:
    """pytest's exit code; called in a fork."""
    import pytest

    os.chdir(copy)
    os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:] = [str(copy / "src"), *(entry for entry in sys.path if not entry.endswith(("/src", "tests/mutants")))]
    return int(pytest.main([*arguments, "--tb=no", "-W", "ignore"], plugins=list(plugins)))


def forked(act: Callable[[], int], limit: float) -> tuple[int, str]:
    """What `act` gives in a forked process, and what it says; one that takes more than `limit` seconds of CPU is ended."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
            sys.dont_write_bytecode = True
            code = 70
            try:
                code = act()
            finally:
                os._exit(code)
        code = _waited(child, 20 * limit)
        said.seek(0)
        return code, said.read()


def _waited(child: int, longest: float) -> int:
    """The exit code of a child, which is killed where it hangs."""
    end = time.monotonic() + longest
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL
