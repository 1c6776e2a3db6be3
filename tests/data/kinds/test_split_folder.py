import json
from pathlib import Path

import pytest

from inheritune.config.sections import Source
from inheritune.data.corpora import documents
from inheritune.data.kinds import source_kind
from inheritune.data.kinds.split_folder import SplitFolder, split_of
from inheritune.errors import DataError


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("en/validation-00001-of-00002-0a1b2c.parquet", "validation"),
        ("data/train_sft-00000-of-00001.parquet", "train_sft"),
        ("test/part.jsonl", "test"),
        ("valid.jsonl", "validation"),
        ("wiki.test.txt", "test"),
        ("dev_2.txt", "validation"),
        ("train1.txt", "train"),
        ("contest.txt", None),
        ("training-notes.txt", "train"),
        ("chapter-1.txt", None),
    ],
)
def test_the_split_that_a_name_tells(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.fixture(params=["data/{}-00000-of-00001.jsonl", "{}/a.jsonl", "{}.jsonl", "corpus.{}.jsonl"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    for split in ("train", "validation", "test"):
        path = tmp_path / "ds" / request.param.format(split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"text": f"of {split}"}))
    (tmp_path / "ds" / "README.md").write_text("About it.")
    (tmp_path / "ds" / "dataset_infos.json").write_text("{}")
    return tmp_path / "ds"


@pytest.mark.parametrize(
    ("asked", "found"), [(None, "train"), ("train", "train"), ("validation", "validation"), ("valid", "validation"), ("test", "test")]
)  # fmt: skip
def test_one_split_is_read_and_training_unless_another_is_named(folder: Path, asked: str | None, found: str) -> None:
    source = Source(source=str(folder), split=asked)
    assert [document.text for document in documents(source)] == [f"of {found}"]
    assert [found in name for name, _ in source_kind(source).contents()] == [True]


def test_what_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="has no split 'other': name one of test, train, validation as split"):
        list(documents(Source(source=str(folder), split="other")))
    (folder / "chapters.txt").write_text("Of no split.")
    with pytest.raises(DataError, match=r"chapters\.txt' is of no split, beside files of test, train, validation"):
        list(documents(str(folder)))
    assert [document.text for document in documents(Source(source=str(folder), split="train"))] == ["of train"]


def test_held_out_files_alone_never_train(tmp_path: Path) -> None:
    (tmp_path / "test-00000-of-00001.jsonl").write_text('{"text": "a"}')
    with pytest.raises(DataError, match="has no split 'train': name one of test as split"):
        list(documents(str(tmp_path)))


def test_a_folder_of_a_configuration(tmp_path: Path) -> None:
    for language in ("en", "de"):
        (tmp_path / language).mkdir()
        (tmp_path / language / "train-00000-of-00001.jsonl").write_text(json.dumps({"text": language}))
    assert [document.text for document in documents(Source(source=str(tmp_path), name="de"))] == ["de"]
    with pytest.raises(DataError, match="has no folder 'fr'"):
        list(documents(Source(source=str(tmp_path), name="fr")))


def test_a_folder_of_texts_of_which_one_is_called_a_test_is_no_dataset(tmp_path: Path) -> None:
    for name in ("test.md", "usage.md"):
        (tmp_path / name).write_text(name)
    assert not SplitFolder.claims(Source(source=str(tmp_path)))
    assert [document.text for document in documents(str(tmp_path))] == ["test.md", "usage.md"]
