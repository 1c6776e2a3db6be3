from pathlib import Path

import pytest

from inheritune.config.sections import Source
from inheritune.data.corpora import documents
from inheritune.data.kinds import docstrings, source_kind

MODULE = '''"""The module.

A paragraph that stands twice.
"""


def public(x):
    """What public does."""
    def inner():
        """Never read: it stands in a function's body."""


class Kept:
    """The class."""

    def method(self):
        """The method.

        A paragraph that stands twice.
        """
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "package"
    files = {
        "__init__.py": '"""The package."""',
        "module.py": MODULE,
        "_private.py": '"""Private."""',
        "tests/test_module.py": '"""A test."""',
        "broken.py": '"""Not Python."""\ndef (:',
        "silent.py": "x = 1",
        "sub/again.py": '"""A paragraph that stands twice."""',
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    monkeypatch.setattr(docstrings, "package_roots", lambda: [("made-up", root)])
    return root


def test_docstrings_of_a_package(package: Path) -> None:
    found = {document.name: document.text for document in documents(docstrings.DOCSTRINGS)}
    assert found == {
        "made-up/__init__.py": "The package.",
        "made-up/module.py": "The module.\n\nA paragraph that stands twice.\n\nWhat public does.\n\n"
        "The class.\n\nThe method.",
    }


def fingerprint() -> str:
    return source_kind(Source(source=docstrings.DOCSTRINGS)).fingerprint()


def test_fingerprint_follows_the_packages(package: Path) -> None:
    before = fingerprint()
    assert fingerprint() == before
    (package / "more.py").write_text('"""More."""')
    assert fingerprint() != before


def test_the_bundled_source_is_there_on_any_machine() -> None:
    roots = dict(docstrings.package_roots())
    assert {"stdlib", "numpy", "torch"} <= set(roots)
    assert all(root.is_dir() for root in roots.values())
