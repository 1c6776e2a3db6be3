import numpy as np
import pytest

from inheritune.data.documents import Document, Encoded
from inheritune.data.sections import LONG, ids_in_sections, in_sections


@pytest.mark.parametrize("between", ["\n\n", "\n", " ", ""])
def test_a_long_text_is_cut_where_it_pauses_and_loses_nothing(between: str) -> None:
    words = [f"word{number:05}." for number in range(LONG // 8)]
    text = between.join(
        " ".join(words[at : at + 40]) if between else "".join(words[at : at + 40]) for at in range(0, len(words), 40)
    )
    found = list(in_sections([Document("a.jsonl#1", text), Document("short", "kept as it is ")]))
    assert found.pop() == Document("short", "kept as it is ")
    assert "".join("".join(section.text for section in found).split()) == "".join(text.split())
    assert len(text) / 12_000 <= len(found) <= len(text) / 3_500
    assert {section.book for section in found} == {"a.jsonl#1"} and found[3].name == "a.jsonl#1/3"
    assert all(section.text.endswith(".") for section in found) or not between


def test_sections_of_one_file_stay_its_sections() -> None:
    long = Document("a.txt#7", "word " * LONG, "a.txt")
    assert {section.book for section in in_sections([long])} == {"a.txt"}


def test_long_rows_of_ids_are_cut_and_lose_nothing() -> None:
    ids = np.arange(60_000, dtype="<u2")
    found = list(ids_in_sections([Encoded("a.bin#0", "a.bin#0", ids), Encoded("b", "b", ids[:9])]))
    assert np.array_equal(np.concatenate([section.ids for section in found[:-1]]), ids)
    assert {section.book for section in found[:-1]} == {"a.bin#0"} and len({section.name for section in found}) == len(
        found
    )
    assert found[-1].name == "b" and len(found[-1].ids) == 9
