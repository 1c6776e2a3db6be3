"""Arrow files and streams."""

from collections.abc import Iterator
from pathlib import Path

from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.tables import numbered, require_text, values
from inheritune.data.unpacking import Unpacked, readable


class Arrow(FileKind):
    """An Arrow file or stream, memory-mapped: a document for each row."""

    suffixes = (".arrow",)

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The texts of its column `field`."""
        yield from numbered(file.name, texts(file.path, field))


def texts(path: Path, field: str) -> Iterator[str | None]:
    """The column `field` of an Arrow file or stream; DataError for damage."""
    import pyarrow

    with readable(path), pyarrow.memory_map(str(path)) as mapped:
        try:
            opened = pyarrow.ipc.open_file(mapped)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            batches = opened = pyarrow.ipc.open_stream(mapped)
        require_text(opened.schema, field, str(path))
        yield from values((batch[field] for batch in batches), Unpacked(path))
