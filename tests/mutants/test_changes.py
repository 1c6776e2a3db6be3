"""The list of changes by hand keeps up with the sources."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_each_change_by_hand_stands_once_in_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.delitem(sys.modules, "changes", raising=False)
    from changes import wiring

    assert len({(change.path, change.at) for change in wiring(ROOT)}) > 50


def test_a_change_is_sought_in_the_lines_of_its_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a statement that goes over several lines, and of one that holds others what stands before them."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.delitem(sys.modules, "changes", raising=False)
    from changes import Change

    source = b"def f(\n    a,\n):\n    b = g(\n        a,\n        1,\n    )\n    if a and (\n        b\n    ):\n        return b + 2\n"
    wanted = {b"1,": range(4, 8), b"and": range(8, 11), b"2": range(11, 12), b"a,\n)": range(1, 4)}
    for old, lines in wanted.items():
        assert Change("f.py", "", source.index(old), old.decode(), "").lines(source) == lines, old
