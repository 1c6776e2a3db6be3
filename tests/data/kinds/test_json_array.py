import json
from pathlib import Path

import pytest

from inheritune.data.corpora import documents
from inheritune.data.kinds import json_array
from inheritune.errors import DataError

ROWS = [{"text": f"document {number}\n\n ü", "more": [{"a": None}]} for number in range(9)]
LAYOUTS = {
    "an array on one line": json.dumps(ROWS),
    "a pretty array": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "objects on many lines": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "objects a line": "\n".join(json.dumps(row) for row in ROWS),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("at_once", [1, 7, 1 << 16])
def test_every_layout_gives_the_same_rows(
    tmp_path: Path, layout: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_array, "_AT_ONCE", at_once)
    (tmp_path / "a.json").write_text("\n " + LAYOUTS[layout] + "\n")
    found = [(document.name, document.text) for document in documents(str(tmp_path / "a.json"))]
    assert found == [(f"a.json#{number}", row["text"]) for number, row in enumerate(ROWS, 1)]


def test_null_and_blank_rows_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"text": null}, {"text": " "}, {"text": "a"}]')
    assert [document.name for document in documents(str(tmp_path / "a.json"))] == ["a.json#3"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"text": "a"}', "is not JSON from row 1 on"),
        ('[{"text": "a"} {"text": "b"}]', "is not JSON from row 1 on"),
        ('[{"text": "a"},]', "is not JSON from row 2 on"),
        ('[{"text": "a"}] more', "is not JSON from row 1 on"),
        ('{"text": "a"}{"text": ', "is not JSON from row 2 on"),
        ("[" * 99_999, "is not JSON from row 1 on"),
        ("[1]", "row 1 of .* is a number, and so has no text field"),
        ('[["a"]]', "row 1 of .* is a list"),
        ('{"text": {"0": "a"}, "title": "b"}', "row 1 of .* has no text in 'text' but an object: name one of title"),
        ("[]", "holds no text"),
        ("  ", "holds no text"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=said):
        list(documents(str(tmp_path / "a.json")))


def test_a_row_beyond_the_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "LONGEST", 1 << 20)
    (tmp_path / "a.json").write_text('[{"text": "' + "x" * (5 << 20))
    with pytest.raises(DataError, match=r"row 1 of .* is not JSON, or has more than 1 MB"):
        list(documents(str(tmp_path / "a.json")))


@pytest.mark.parametrize("content", ["[\n{}\n]", '{\n "text": "a"\n}', '[{"text": "a"}]'])
def test_such_text_under_the_name_of_json_lines_is_told_apart(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"line 1 of .*name the file \.json"):
        list(documents(str(tmp_path / "a.jsonl")))
