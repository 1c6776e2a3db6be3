"""SIGTERM in a stage outside training: one sentence, and a folder that status calls stopped."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from launch import launched
from shell import command

from inheritune.comparison.status import status
from inheritune.errors import DataError
from inheritune.runs import lab
from inheritune.runtime import processes
from inheritune.runtime.interruption import Terminated, exit_code, terminable


def test_sigterm_is_raised_where_the_work_stands_and_only_there() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Terminated) as found, terminable():
        signal.raise_signal(signal.SIGTERM)
    assert exit_code(found.value) == 143 and exit_code(KeyboardInterrupt()) == 130
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("failed", [False, True])
def test_of_a_launch_the_first_process_alone_speaks_and_not_after_anothers_error(failed: bool) -> None:
    """All are sent SIGTERM, as torchrun does it when it is stopped, or when one has told an error: 5 is to speak, 6 to be silent."""

    def act() -> None:
        try:
            with terminable(), processes.joined(60):
                store: Any = processes._store
                if processes.rank() == 0:
                    store.wait([processes._FAILED if failed else "there"])
                elif failed:
                    raise DataError("told here")
                else:
                    store.set("there", "1")
                signal.raise_signal(signal.SIGTERM)
        except Terminated:
            os._exit(5)
        except SystemExit:
            os._exit(6)
        except DataError:
            os._exit(2)

    assert launched(2, act) == ([6, 2] if failed else [5, -signal.SIGTERM])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_while_blocks_are_chosen_says_so(
    tree: dict[str, Any],
    write_recipe: Callable[[dict[str, Any]], str],
    tmp_path: Path,
    monkeypatch,
    number: int,
    code: int,
) -> None:
    """The lock is let go, so that status says stopped, and not killed."""
    monkeypatch.setattr(lab.FolderLab, "untrained", lambda *_: signal.raise_signal(number), raising=False)
    monkeypatch.setattr(lab, "CRITERIA", {name: lambda *_: signal.raise_signal(number) for name in lab.CRITERIA})
    out = tmp_path / "run"
    recipe = write_recipe(tree)
    ended = command("run", recipe, "--out", str(out), "--quiet")
    assert ended.code == code, ended
    found = status(str(out))
    assert found.state == "stopped" and found.goes_on == f"inheritune run {out}/config.yaml --out {out}"
    assert ended.err == f"inheritune: stopped: this goes on from what is kept: {found.goes_on}\n"
