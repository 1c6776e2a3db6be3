from pathlib import Path

import pytest

from inheritune.config.sections import Source
from inheritune.data import corpora, docstrings
from inheritune.data.corpora import documents
from inheritune.errors import DataError

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
    found = {document.name: document.text for document in documents(corpora.DOCSTRINGS)}
    assert found == {
        "made-up/__init__.py": "The package.",
        "made-up/module.py": "The module.\n\nA paragraph that stands twice.\n\nWhat public does.\n\n"
        "The class.\n\nThe method.",
    }


def test_fingerprint_follows_the_packages(package: Path) -> None:
    before = corpora.fingerprint(Source(source=corpora.DOCSTRINGS))
    assert corpora.fingerprint(Source(source=corpora.DOCSTRINGS)) == before
    (package / "more.py").write_text('"""More."""')
    assert corpora.fingerprint(Source(source=corpora.DOCSTRINGS)) != before


def test_the_bundled_source_is_there_on_any_machine() -> None:
    roots = dict(docstrings.package_roots())
    assert {"stdlib", "numpy", "torch"} <= set(roots)
    assert all(root.is_dir() for root in roots.values())


def test_long_text_is_cut_at_paragraphs(tmp_path: Path) -> None:
    paragraphs = [f"{number} " + "word " * 100 for number in range(40)]
    tmp_path.joinpath("a.txt").write_text("\n\n".join(paragraphs))
    found = list(documents(str(tmp_path / "a.txt")))
    assert len(found) > 3 and [document.name for document in found[:2]] == ["a.txt#0", "a.txt#1"]
    assert "\n\n".join(document.text for document in found) == "\n\n".join(paragraphs)


def test_jsonl_field_by_name(tmp_path: Path) -> None:
    tmp_path.joinpath("a.jsonl").write_text('{"body": "one"}\n\n{"body": " "}\n{"body": "two"}\n')
    assert [document.text for document in documents(str(tmp_path / "a.jsonl"), "body")] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.txt", b"", "'.*empty.txt' is empty"),
        ("blank.txt", b" \n\n \n", "holds no text"),
        ("latin.txt", "caf\xe9".encode("latin-1"), "not UTF-8 text .byte 3."),
        ("nul.txt", b"ab\0cd", "NUL"),
        ("bad.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 of .* is not JSON"),
        ("list.jsonl", b"[1]\n", "line 1 of .* is a list, and so has no text field 'text'"),
        ("other.jsonl", b'{"body": "a"}\n', "no text field 'text': name one of body in data.field"),
        ("number.jsonl", b'{"text": 3}\n', "line 1 of .* has no text in 'text' but a number"),
        ("messages.jsonl", b'{"text": [{"role": "user"}]}', "no text in 'text' but a list"),
    ],
)
def test_text_that_is_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        list(documents(str(tmp_path / name)))


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file '.*nowhere.txt'"):
        list(documents(str(tmp_path / "nowhere.txt")))
    with pytest.raises(DataError, match="holds no text"):
        list(documents(str(tmp_path)))
