"""Books on one side where enough of them are held out, else sections of every book; and which book each document is of."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from tiny import VOCABULARY
from transformers import PreTrainedTokenizerFast

from inheritune.config.sections import Data, Source
from inheritune.data import sides, store
from inheritune.data.building import Job, build
from inheritune.data.coding import Coding
from inheritune.data.sides import on_validation_side, section_on_validation_side
from inheritune.data.store import Tokens
from inheritune.data.tokens import prepare
from inheritune.records.prepared import Manifest

Made = tuple[Tokens, Tokens, Manifest]


def held_out(book: str, count: int, share: float) -> list[int]:
    return [number for number in range(count) if section_on_validation_side(book, number, share)]


def test_runs_of_sections_are_held_out_evenly() -> None:
    for share in (0.05, 0.2, 0.5):
        sizes = [len(held_out(f"book {book}", 400, share)) for book in range(50)]
        assert set(sizes) <= {4 * int(100 * share), 4 * int(100 * share) + 4}
    found = held_out("a book", 400, 0.1)
    assert [number % 4 for number in found] == [0, 1, 2, 3] * 10
    assert set(np.diff(found[::4])) == {40}


def test_a_book_of_one_section_is_held_out_where_it_would_be_as_a_whole() -> None:
    for share in (0.01, 0.3, 0.9):
        names = [f"name {number}" for number in range(300)]
        assert [section_on_validation_side(name, 0, share) for name in names] == [
            on_validation_side(name, share) for name in names
        ]


def made(folder: Path, tokenizer: PreTrainedTokenizerFast, *sources: Path, share: float = 0.1) -> Made:
    coding = Coding.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id)
    build(Job([Source(source=str(path)) for path in sources], [], "text", share, coding), folder, print)
    return store.read_side(folder, "train"), store.read_side(folder, "valid"), store.read_manifest(folder)


def texts_of(side: Tokens, tokenizer: PreTrainedTokenizerFast) -> list[str]:
    return [tokenizer.decode(side.document(number)[:-1]) for number in range(len(side.starts))]


def book(number: int, sections: int) -> str:
    """Sections that each say of which book they are and which they are."""
    return "\n\n".join(f"book{number} part{part}. " + "ka mi lo " * 450 for part in range(sections))


def marks(texts: Iterable[str]) -> list[tuple[int, int]]:
    """The book and the section that each document begins with."""
    words = [text.split()[:2] for text in texts]
    return [(int(first.removeprefix("book")), int(second.removeprefix("part").rstrip("."))) for first, second in words]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    for number in range(30):
        (tmp_path / "library" / f"{number}.txt").write_text(book(number, 6))
    return tmp_path / "library"


def test_enough_books_stand_each_on_one_side(library: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    train, valid, manifest = made(tmp_path / "out", tokenizer, library, share=0.5)
    here, there = (marks(texts_of(side, tokenizer)) for side in (train, valid))
    assert len(here) + len(there) == 180 and not {book for book, _ in here} & {book for book, _ in there}
    assert manifest.sources[0].held_out == "books" and len({book for book, _ in there}) >= sides.ENOUGH
    assert valid.books is not None
    assert len(set(zip(valid.books.tolist(), (book for book, _ in there), strict=True))) == len(
        {book for book, _ in there}
    )


def test_of_too_few_books_sections_are_held_out(
    library: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    train, valid, manifest = made(tmp_path / "out", tokenizer, library, share=0.25)
    here, there = (marks(texts_of(side, tokenizer)) for side in (train, valid))
    assert manifest.sources[0].held_out == "sections" and sorted(here + there) == [
        (b, s) for b in range(30) for s in range(6)
    ]
    assert there == [
        mark
        for mark in sorted(there, key=lambda m: str(m[0]))
        if section_on_validation_side(f"{mark[0]}.txt", mark[1], 0.25)
    ]
    assert {book for book, _ in here} & {book for book, _ in there}
    assert manifest.sides.valid.books == len({book for book, _ in there})


def test_six_books_as_rows_can_be_used(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = (json.dumps({"text": book(number, 30)}) + "\n" for number in range(6))
    (tmp_path / "a.jsonl").write_text("".join(rows))
    train, valid, manifest = made(tmp_path / "out", tokenizer, tmp_path / "a.jsonl")
    here, there = (marks(texts_of(side, tokenizer)) for side in (train, valid))
    assert {book for book, _ in here} == set(range(6)) and len(here) + len(there) == 180
    assert manifest.sides.valid.books == len({book for book, _ in there}) > 2
    assert valid.books is not None and valid.books.tolist() == [
        sorted({book for book, _ in there}).index(book) for book, _ in there
    ]


def test_a_row_of_ids_without_an_end(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    ids = np.random.default_rng(0).integers(1, 300, 80_000).astype("<u2")
    ids.tofile(tmp_path / "train.bin")
    train, valid, manifest = made(tmp_path / "out", tokenizer, tmp_path / "train.bin", share=0.2)
    assert manifest.sides.valid.books == manifest.sides.train.books == 1
    wanted = [ids[start : start + 1024].tolist() for start in range(0, len(ids), 1024)]
    held = [row for number, row in enumerate(wanted) if section_on_validation_side("train.bin#0", number, 0.2)]
    assert [valid.document(number).tolist() for number in range(len(valid.starts))] == held and len(held)
    assert len(train.starts) == len(wanted) - len(held)


def test_only_the_source_with_too_few_is_read_by_section(
    library: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, corpus: Path
) -> None:
    _, valid, manifest = made(tmp_path / "both", tokenizer, corpus / "words.jsonl", library / "1.txt", share=0.2)
    assert [source.held_out for source in manifest.sources] == ["books", "sections"]
    alone = made(tmp_path / "alone", tokenizer, corpus / "words.jsonl", share=0.2)[1]
    documents = len(alone.starts)
    assert valid.ids[: len(alone.ids)].tolist() == alone.ids.tolist()
    assert valid.books is not None and valid.books.tolist() == [
        *range(documents),
        *[documents] * (len(valid.starts) - documents),
    ]


def test_documents_that_are_whole_have_no_books(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, corpus: Path
) -> None:
    assert [side.books for side in made(tmp_path / "out", tokenizer, corpus / "words.jsonl", share=0.2)[:2]] == [
        None,
        None,
    ]


def test_books_stay_with_their_documents_where_sources_are_mixed(
    library: Path, tokenizer: PreTrainedTokenizerFast, corpus: Path
) -> None:
    coding = Coding.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id)
    sources = [{"source": str(library / "1.txt")}, {"source": str(library / "2.txt"), "weight": 3}]
    valid = prepare(Data(train=sources, valid_share=0.5), coding, VOCABULARY)[1]
    found = marks(texts_of(valid, tokenizer))
    assert (
        valid.books is not None and len(set(zip((book for book, _ in found), valid.books.tolist(), strict=True))) == 2
    )


def test_prepared_folders_keep_their_books(library: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    made(tmp_path / "out", tokenizer, library, share=0.5)
    again = made(tmp_path / "again", tokenizer, tmp_path / "out", share=0.5)
    assert again[2].sources[0].held_out == "books"
    here, there = (marks(texts_of(side, tokenizer)) for side in again[:2])
    assert not {book for book, _ in here} & {book for book, _ in there}


def test_folders_of_before_books_are_read(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, corpus: Path) -> None:
    valid = made(tmp_path / "out", tokenizer, corpus / "words.jsonl", share=0.2)[1]
    place = tmp_path / "out" / "manifest.json"
    written = json.loads(place.read_text())
    for side in store.SIDES:
        (tmp_path / "out" / f"{side}.books").unlink()
        del written["sides"][side]["books"], written["sides"][side]["books_sha256"]
    place.write_text(json.dumps({**written, "format": "inheritune tokens 1"}))
    older = store.read_side(tmp_path / "out", "valid")
    assert older.books is None and older.ids.tolist() == valid.ids.tolist()
