"""Arrow files and streams."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from inheritune.data.arrow_sizes import unpacked_size
from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.rows import Content
from inheritune.data.tables import column_of, numbered, values
from inheritune.data.unpacking import Unpacked, readable

_FILE = b"ARROW1\0\0"


class Arrow(FileKind):
    """An Arrow file or stream, memory-mapped: a document for each row."""

    suffixes = (".arrow",)

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The texts of its column `field`."""
        yield from numbered(file.name, contents(file.path, field))


def contents(path: Path, field: str) -> Iterator[Content | None]:
    """The column `field` of an Arrow file or stream; DataError for damage, or where it unpacks to more than any text."""
    import pyarrow

    with readable(path), pyarrow.memory_map(str(path)) as mapped:
        # A file is a stream with a mark before it and an index behind it.
        indexed = mapped.read(len(_FILE)) == _FILE
        _require_bounded(mapped, len(_FILE) if indexed else 0, path)
        batches: Iterable[Any]
        if indexed:
            opened = pyarrow.ipc.open_file(mapped)
            batches = map(opened.get_batch, range(opened.num_record_batches))
        else:
            batches = opened = pyarrow.ipc.open_stream(mapped)
        column = column_of(opened.schema, field, str(path))
        yield from values((batch[column] for batch in batches), Unpacked(path))


def _require_bounded(mapped: Any, start: int, path: Path) -> None:
    import pyarrow

    unpacked = Unpacked(path)
    mapped.seek(start)
    for message in pyarrow.ipc.MessageReader.open_stream(mapped):
        unpacked.add(unpacked_size(message))
    mapped.seek(0)
