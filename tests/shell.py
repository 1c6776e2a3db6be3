"""The command line, called inside the test's own process."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest

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


def alone_on_path(folder: Path, tools: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new folder that alone is on PATH, with these programs: name and content."""
    place = folder / "tools"
    place.mkdir()
    for name, content in tools.items():
        (place / name).write_text(content)
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(place))
    return place
