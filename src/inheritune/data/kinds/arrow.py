"""Arrow files and streams."""

from collections.abc import Iterator
from pathlib import Path

from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.rows import Content
from inheritune.data.tables import column_of, numbered, values
from inheritune.data.unpacking import Unpacked, readable


class Arrow(FileKind):
    """An Arrow file or stream, memory-mapped: a document for each row."""

    suffixes = (".arrow",)

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The texts of its column `field`."""
        yield from numbered(file.name, contents(file.path, field))


def contents(path: Path, field: str) -> Iterator[Content | None]:
    """The column `field` of an Arrow file or stream; DataError for damage."""
    import pyarrow

    with readable(path), pyarrow.memory_map(str(path)) as mapped:
        try:
            opened = pyarrow.ipc.open_file(mapped)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            batches = opened = pyarrow.ipc.open_stream(mapped)
        column = column_of(opened.schema, field, str(path))
        yield from values((batch[column] for batch in batches), Unpacked(path))
