from pathlib import Path

import pytest

from inheritune.data.corpora import documents
from inheritune.errors import DataError


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
        ("messages.jsonl", b'{"text": [{"role": "user"}]}', "message 1 of .* has no text as its content"),
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
