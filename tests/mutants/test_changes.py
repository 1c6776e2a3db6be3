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
