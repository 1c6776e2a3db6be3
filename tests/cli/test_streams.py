"""Output that nobody reads, or that a terminal cannot show, ends no command."""

import io
import os
import sys
from pathlib import Path
from unittest.mock import patch

import pytest

from inheritune.cli import main
from inheritune.progress import Progress

RECIPE = """
name: été
reference: some/model
data: {train: a.txt, sequence_length: 64}
training: {tokens: 10000, batch_tokens: 1024, micro_batch_size: 4}
"""


def ended(*arguments: str) -> int:
    with patch.object(sys, "argv", ["inheritune", *arguments]):
        try:
            main()
        except SystemExit as code:
            return int(code.code or 0)
    return 0


def test_a_terminal_of_ascii_is_given_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE, encoding="utf-8")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    assert ended("config", "--recipe", str(tmp_path / "r.yaml")) == 0
    assert b"name: \\xe9t\\xe9\n" in written.getvalue()


@pytest.mark.parametrize("arguments", [("config",), ("config", "compare")])
def test_a_closed_output_is_none(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert ended(*arguments) == 0


@pytest.mark.parametrize(("more", "told"), [((), True), (("--quiet",), False)])
def test_a_terminal_hears_of_a_command_before_what_it_imports(
    more: tuple[str, ...], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert ended("plan", "nowhere.yaml", *more) == 2
    assert terminal.getvalue().startswith("inheritune plan begins\n") == told


def test_the_work_goes_on_when_the_reader_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        progress = Progress()
        progress.stage("one")
        progress.note("two")
        progress.now("three")
        progress.close()
        gone.write("what is left is not flushed into the pipe")
