"""The size that an Arrow message declares for its buffers when unpacked: pyarrow allocates it before it reads them.

A message is a flatbuffer, of which the four fields needed here are followed: `header` of Message, `data` of DictionaryBatch,
`buffers` and `compression` of RecordBatch (the columnar format's Message.fbs).
"""

import struct
from typing import Any, NamedTuple

from inheritune.errors import DataError

_DICTIONARY, _RECORD = 2, 3  # kinds of header


def unpacked_size(message: Any) -> int:
    """Bytes that the compressed buffers of a `pyarrow.Message` declare to unpack to; 0 if none is. Raises DataError for damage."""
    try:
        return _unpacked_size(bytes(message.metadata), memoryview(message.body or b""))
    except (struct.error, IndexError) as error:
        raise DataError("a message of an Arrow file is damaged: write the file again") from error


def _unpacked_size(metadata: bytes, body: memoryview) -> int:
    root = _Table(metadata, _number("<I", metadata, 0))
    kind = root.field(1)
    if kind is None or metadata[kind] not in (_DICTIONARY, _RECORD):
        return 0
    header = root.table(2)
    batch = header.table(1) if header and metadata[kind] == _DICTIONARY else header
    if batch is None or batch.table(3) is None or (listed := batch.field(2)) is None:
        return 0
    first = listed + _number("<I", metadata, listed)
    found = 0
    for place in range(first + 4, first + 4 + 16 * _number("<I", metadata, first), 16):
        start, length = struct.unpack_from("<qq", metadata, place)
        # Each compressed buffer begins with its unpacked length, which is negative if it was stored uncompressed.
        own = _number("<q", body, start) if length else 0
        found += own if own >= 0 else length
    return found


class _Table(NamedTuple):
    """A table of a flatbuffer."""

    data: bytes
    at: int

    def field(self, number: int) -> int | None:
        """The offset of a field's value; None if it has none."""
        own = self.at - _number("<i", self.data, self.at)
        slot = 4 + 2 * number
        offset = _number("<H", self.data, own + slot) if slot < _number("<H", self.data, own) else 0
        return self.at + offset if offset else None

    def table(self, number: int) -> "_Table | None":
        """The table that a field points to; None if there is none."""
        place = self.field(number)
        return None if place is None else _Table(self.data, place + _number("<I", self.data, place))


def _number(kind: str, data: bytes | memoryview, at: int) -> int:
    if at < 0:
        raise IndexError(at)
    return struct.unpack_from(kind, data, at)[0]
