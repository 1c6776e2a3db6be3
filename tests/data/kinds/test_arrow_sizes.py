"""What compressed Arrow files unpack to: held against what pyarrow makes of them, and refused before it is made."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from inheritune.data.arrow_sizes import unpacked_size
from inheritune.data.kinds.arrow import contents
from inheritune.errors import DataError

_TEXTS = ["one text", "eine Länge", None] * 100
_TABLE = pa.table({"text": _TEXTS, "named": pa.array(["a", "b", "a"] * 100).dictionary_encode()})


def _written(path: Path, table: pa.Table, compression: str | None, kind: str = "stream") -> Path:
    opened: Any = getattr(pa.ipc, f"new_{kind}")
    with opened(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=70)
    return path


def _messages(path: Path) -> list[Any]:
    return list(pa.ipc.MessageReader.open_stream(pa.py_buffer(path.read_bytes())))


@pytest.mark.parametrize("kind", ["file", "stream"])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
def test_every_text_is_read(compression: str | None, kind: str, tmp_path: Path) -> None:
    path = _written(tmp_path / "t.arrow", _TABLE, compression, kind)
    assert list(contents(path, "text")) == _TEXTS
    assert list(contents(path, "named")) == ["a", "b", "a"] * 100


def test_sizes_are_those_that_pyarrow_makes(tmp_path: Path) -> None:
    """Of every buffer the bytes that the same table has uncompressed, which pyarrow pads to eight; nothing where nothing is compressed."""
    plain = _messages(_written(tmp_path / "plain.arrow", _TABLE, None))
    assert [unpacked_size(message) for message in plain] == [0] * len(plain)
    packed = _messages(_written(tmp_path / "packed.arrow", _TABLE, "zstd"))
    sizes = [unpacked_size(message) for message in packed]
    assert sizes[0] == 0, "the schema"
    for size, message in zip(sizes[1:], plain[1:], strict=True):
        assert message.body.size - 8 * len(_TABLE.columns) * 3 < size <= message.body.size


def test_what_unpacks_to_more_than_any_text_is_never_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"text": ["a" * (40 << 20)]})
    path = _written(tmp_path / "bomb.arrow", table, "zstd", "file")
    monkeypatch.setattr(pa.ipc, "open_file", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(DataError, match=r"bomb\.arrow' unpacks to more than 250 times its size"):
        list(contents(path, "text"))


def test_a_damaged_message_is_told_or_harmless(tmp_path: Path) -> None:
    """Each byte of each message's description changed in turn: a number, or DataError."""

    class Message:
        metadata, body = b"", b""

    told = 0
    for whole in _messages(_written(tmp_path / "t.arrow", _TABLE, "lz4"))[:3]:
        for at in range(len(whole.metadata)):
            damaged = bytearray(whole.metadata)
            damaged[at] ^= 0xFF
            message: Any = Message()
            message.metadata, message.body = bytes(damaged), whole.body
            try:
                assert isinstance(unpacked_size(message), int)
            except DataError as error:
                told += "damaged" in str(error)
    assert told > 10
