import json
from pathlib import Path

import datasets
import pytest

from inheritune.data.corpora import documents
from inheritune.errors import DataError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    dataset = datasets.Dataset.from_dict({"text": ["one", "two", "three"]}, split="train").select([2, 0])
    datasets.DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_rows_and_names_are_those_of_datasets(saved: Path) -> None:
    wanted = list(datasets.load_from_disk(str(saved))["train"]["text"])
    found = list(documents(str(saved)))
    assert [document.text for document in found] == wanted == ["three", "one"]
    assert [document.name for document in found] == ["saved/train#1", "saved/train#2"]


def test_lists_never_lead_out(saved: Path) -> None:
    outside = saved.parent / "outside.arrow"
    (saved / "train" / "data-00000-of-00001.arrow").rename(outside)
    state = json.loads((saved / "train" / "state.json").read_text())
    for name in ("../../outside.arrow", str(outside), 7, "missing.arrow"):
        state["_data_files"] = [{"filename": name}]
        (saved / "train" / "state.json").write_text(json.dumps(state))
        with pytest.raises(DataError, match="which does not stand in it: save the dataset again"):
            list(documents(str(saved)))
    (saved / "dataset_dict.json").write_text('{"splits": ["..", "train"]}')
    (saved / "train" / "state.json").write_text("[")
    with pytest.raises(DataError, match=r"state\.json' cannot be read"):
        list(documents(str(saved)))
