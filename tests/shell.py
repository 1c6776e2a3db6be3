"""The command line, called inside the test's own process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from inheritune.cli import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(*arguments: str) -> Ended:
    """`inheritune ARGUMENTS`."""
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", ["inheritune", *arguments]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Ended(code, out.getvalue(), err.getvalue())


def refused(*arguments: str) -> str:
    """The one sentence with which a command refuses its input; there is nothing on standard output."""
    ended = command(*arguments)
    assert ended.code == 2, ended
    lines = ended.err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("inheritune: "), ended.err
    assert "Traceback" not in ended.out
    return lines[0]
