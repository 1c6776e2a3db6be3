from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inheritune.data import unpacking
from inheritune.data.corpora import documents
from inheritune.errors import DataError


def test_bytes_are_read_as_utf8(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array(["ü".encode(), b"b"])}), tmp_path / "a.parquet")
    assert [document.text for document in documents(str(tmp_path / "a.parquet"))] == ["ü", "b"]
    pq.write_table(pa.table({"text": pa.array([b"\xff"])}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet' cannot be read .*utf-8"):
        list(documents(str(tmp_path / "a.parquet")))


@pytest.mark.parametrize("column", [pa.array([None, None]), pa.array([["a"]]), pa.array([{"role": "user"}])])
def test_columns_of_no_text_are_told_by_their_type(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"text": column, "other": ["a"] * len(column)}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"has no text in 'text' but (null|list|struct)"):
        list(documents(str(tmp_path / "a.parquet")))


def test_what_unpacks_to_more_than_text_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_UNPACKED", 1 << 20)
    rows = pa.array(["x" * (1 << 16)] * 70)
    for name, dictionary in (("page", False), ("dictionary", True)):
        pq.write_table(
            pa.table({"text": rows}), tmp_path / f"{name}.parquet", compression="zstd", use_dictionary=dictionary
        )
        with pytest.raises(DataError, match=f"{name}.parquet' unpacks to more than 250 times its size"):
            list(documents(str(tmp_path / f"{name}.parquet")))
