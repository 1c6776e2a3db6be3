"""Every kind of source: the same texts come out of all of them, and what is damaged is named."""

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inheritune.config.sections import Source
from inheritune.data import unpacking
from inheritune.data.corpora import documents, require
from inheritune.errors import DataError

TEXTS = [f"document {number} of ünïcode\u2028 text" for number in range(700)]


def jsonl(texts: list[str] = TEXTS) -> bytes:
    return "".join(json.dumps({"id": 1, "body": text}, ensure_ascii=False) + "\n" for text in texts).encode()


def zstd(content: bytes) -> bytes:
    return pa.compress(content, codec="zstd", asbytes=True)


def arrow(path: Path, new: Callable) -> None:
    table = pa.table({"id": list(range(len(TEXTS))), "body": TEXTS})
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """The same texts in every kind."""
    (tmp_path / "a.jsonl").write_bytes(jsonl())
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl())
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl()))
    (tmp_path / "a.ndjson.xz").write_bytes(lzma.compress(jsonl()))
    (tmp_path / "a.jsonl.zst").write_bytes(zstd(jsonl()))
    pq.write_table(pa.table({"id": [1] * len(TEXTS), "body": TEXTS}), tmp_path / "a.parquet", row_group_size=64)
    arrow(tmp_path / "stream.arrow", pa.ipc.new_stream)
    arrow(tmp_path / "file.arrow", pa.ipc.new_file)
    dataset = datasets.Dataset.from_dict({"body": TEXTS})
    dataset.save_to_disk(str(tmp_path / "saved"))
    datasets.DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "dict"))
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    (tmp_path / "folder" / "1.jsonl").write_bytes(jsonl(TEXTS[:300]))
    (tmp_path / "folder" / "sub" / "2.jsonl.gz").write_bytes(gzip.compress(jsonl(TEXTS[300:])))
    (tmp_path / "folder" / "README.md").write_text("About, and no text of it.")
    (tmp_path / "folder" / ".hidden").write_text("Nor is this.")
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        "a.jsonl",
        "bom.jsonl",
        "a.jsonl.gz",
        "a.ndjson.xz",
        "a.jsonl.zst",
        "a.parquet",
        "stream.arrow",
        "file.arrow",
        "saved",
        "dict",
        "folder",
        "folder/**/*.jsonl*",
    ],
)
def test_all_kinds_hold_the_same_texts(made: Path, name: str) -> None:
    found = list(documents(Source(source=str(made / name), field="body")))
    assert [document.text for document in found] == TEXTS
    assert len({document.name for document in found}) == len(TEXTS)


def test_packing_a_file_changes_no_name(made: Path) -> None:
    plain, packed = (list(documents(str(made / name), "body")) for name in ("a.jsonl", "a.jsonl.zst"))
    assert plain == packed


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_running_text_packed_or_not(tmp_path: Path, suffix: str) -> None:
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}[suffix]
    text = "\r\n\r\n".join(f"Paragraph {number}.\r\n  indented" for number in range(400))
    (tmp_path / f"a.txt{suffix}").write_bytes(pack(b"\xef\xbb\xbf" + text.encode()))
    found = [document.text for document in documents(str(tmp_path / f"a.txt{suffix}"))]
    assert "\n\n".join(found) == text.replace("\r\n", "\n") and len(found) > 2


def test_text_without_blank_lines_is_cut_at_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a line of text\n" * 20_000)
    found = [document.text for document in documents(str(tmp_path / "a.txt"))]
    assert "\n".join(found) + "\n" == "a line of text\n" * 20_000 and 1 < len(found) < 6


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.jsonl.gz"])
def test_encodings_that_a_byte_order_mark_tells(tmp_path: Path, name: str, encoding: str) -> None:
    texts = TEXTS[:3] if name != "a.txt" else ["one line of ünïcode\u2028 text 👍🏽"]
    text = json.dumps([{"body": text} for text in texts], ensure_ascii=False, indent=1)
    text = {".txt": texts[0], ".json": text}.get(Path(name).suffix, jsonl(texts).decode())
    content = (("\ufeff" if encoding[-2:] in ("le", "be") else "") + text).encode(encoding)
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [document.text for document in documents(str(tmp_path / name), "body")] == texts


def test_text_that_is_not_in_the_encoding_it_begins_with(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe" + "half".encode("utf-16-le")[:-1])
    with pytest.raises(DataError, match=r"a\.txt' begins as UTF-16 text and is none .*: convert it"):
        list(documents(str(tmp_path / "a.txt")))


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.gz", "a.json.xz", "a.jsonl.zst"])
def test_what_unpacks_to_more_than_text_can_be_packed_into(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "_UNPACKED", 1 << 18)
    pack = {".gz": gzip.compress, ".xz": lzma.compress, ".zst": zstd}[Path(name).suffix]
    (tmp_path / name).write_bytes(pack(b"\n" * (1 << 20)))
    with pytest.raises(DataError, match=rf"{name}' unpacks to more than 250 times its size"):
        list(documents(str(tmp_path / name)))


def test_zstd_with_a_long_window_says_so(tmp_path: Path) -> None:
    frame = bytes.fromhex("28b52ffd04a8010000")  # a frame header that asks for a window of 2 GB, and an empty block
    (tmp_path / "a.jsonl.zst").write_bytes(frame)
    with pytest.raises(DataError, match=r"packed with `--long`, so unpack it"):
        list(documents(str(tmp_path / "a.jsonl.zst")))


def damaged(folder: Path, name: str, content: bytes) -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.ndjson.xz", "a.jsonl.zst", "a.parquet", "file.arrow"])
def test_truncated_files_are_named(made: Path, name: str, share: float) -> None:
    content = (made / name).read_bytes()
    place = damaged(made / "cut", name, content[: max(9, int(share * len(content)))])
    with pytest.raises(DataError, match=r"cannot be read|is not JSON") as error:
        list(documents(place, "body"))
    assert name in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"a,b", r"a.csv' is of no kind that is read.*\.jsonl"),
        ("a.bin.gz", b"a", r"of no kind"),
        ("a.parquet.gz", b"a", r"of no kind"),
        ("a.jsonl.gz", b"not packed at all", "cannot be read.*fetch or pack it again"),
        ("a.txt.zst", b"not packed at all", "cannot be read"),
        ("a.parquet", b"not a table", "cannot be read"),
        ("a.txt", b"x" * (33 << 20), "line 1 of .* more than 32 MB"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "line 1 of .* is not JSON"),
        ("a.bin", b"\1\0\2\0", "holds tokens, and text is needed"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        list(documents(damaged(tmp_path, name, content)))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"source": "nowhere/*.txt"}, "the pattern 'nowhere/\\*.txt' matches no file"),
        ({"source": "owner/words"}, "'hf:owner/words'"),
        ({"source": "hf:"}, "names no dataset"),
        ({"source": "a.jsonl", "split": "test"}, "is no dataset and has no split 'test'"),
        ({"source": "a.jsonl", "name": "en"}, "is no dataset and has no name 'en'"),
        ({"source": "dict", "split": "test"}, "has no split 'test': name one of train"),
        ({"source": "saved", "split": "test"}, "has no split 'test'"),
        ({"source": "saved", "field": "tex"}, "no column 'tex': name one of body"),
        ({"source": "a.parquet", "field": "tex"}, "no column 'tex': name one of id, body"),
        ({"source": "a.parquet", "field": "id"}, "has no text in 'id' but int64: name a column"),
        ({"source": "stream.arrow", "field": "id"}, "has no text in 'id' but int64: name a column"),
    ],
)
def test_sources_that_are_refused(
    made: Path, source: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made)
    with pytest.raises(DataError, match=said):
        require([Source(**source)])
        list(documents(Source(**source)))


def test_a_dataset_of_the_hub_without_network() -> None:
    with pytest.raises(DataError, match=r"'hf:owner/words' cannot be streamed.*check the network"):
        list(documents("hf:owner/words"))


def table_of(column: pa.Array, path: Path) -> str:
    """A table of one column, as Parquet or as an Arrow file by its name."""
    table = pa.table({"text": column})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return str(path)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return str(path)


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_rows_of_null_are_left_out_and_others_keep_their_names(tmp_path: Path, name: str) -> None:
    rows = ["first", None, " ", "last"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    lines = list(documents(str(tmp_path / "a.jsonl")))
    assert [(document.name, document.text) for document in lines] == [("a.jsonl#1", "first"), ("a.jsonl#4", "last")]
    found = list(documents(table_of(pa.array(rows), tmp_path / name)))
    assert [(document.name, document.text) for document in found] == [(f"{name}#1", "first"), (f"{name}#4", "last")]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_text_of_tables_that_is_not_utf8(tmp_path: Path, name: str) -> None:
    latin = pa.array(["caf\xe9".encode("latin-1")], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 1, latin.buffers())
    with pytest.raises(DataError, match=rf"{name}' cannot be read \(.*UTF8"):
        list(documents(table_of(column, tmp_path / name)))


def test_offsets_of_arrow_never_lead_outside(tmp_path: Path) -> None:
    place = Path(table_of(pa.array(["hello w"] * 3), tmp_path / "a.arrow"))
    whole, offsets = place.read_bytes(), np.asarray([0, 7, 14, 21], dtype="<i4").tobytes()
    assert whole.count(offsets) == 1
    place.write_bytes(whole.replace(offsets, np.asarray([-(2**31) + 1, 10, 20, 2**31 - 1], dtype="<i4").tobytes()))
    with pytest.raises(DataError, match=r"a\.arrow' cannot be read"):
        list(documents(str(place)))


def test_a_glob_through_links_to_itself_ends(made: Path) -> None:
    for name in ("one", "two", "three"):
        (made / "folder" / "sub" / name).symlink_to(made / "folder")
    found = list(documents(str(made / "folder/**/*.jsonl*"), "body"))
    assert [document.text for document in found] == TEXTS
    assert list(documents(str(made / "folder"), "body")) == found


def test_links_of_folders_that_lead_out_and_links_to_nothing(made: Path) -> None:
    (made / "elsewhere").mkdir()
    (made / "folder" / "out").symlink_to(made / "elsewhere")
    with pytest.raises(DataError, match="out' is a link that leads out of its folder"):
        list(documents(str(made / "folder"), "body"))
    (made / "folder" / "out").unlink()
    (made / "folder" / "z.jsonl").symlink_to("missing.jsonl")
    with pytest.raises(DataError, match=r"z\.jsonl' is a link to nothing"):
        list(documents(str(made / "folder"), "body"))


@pytest.mark.parametrize("source", ["a.txt", "folder", "folder/*.txt"])
def test_pipes_and_devices_are_no_files(tmp_path: Path, source: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "folder" / "a.txt")
    (tmp_path / "a.txt").symlink_to("/dev/zero")
    with pytest.raises(DataError, match=r"a\.txt' is a (pipe, socket or device|link that leads out)"):
        list(documents(str(tmp_path / source)))
    with pytest.raises(DataError, match="'/dev/zero' is a pipe, socket or device"):
        list(documents("/dev/zero"))
