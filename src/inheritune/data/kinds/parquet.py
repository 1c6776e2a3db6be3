"""Parquet files."""

from collections.abc import Iterator
from typing import Any

from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.tables import ROWS, column_of, numbered, values
from inheritune.data.unpacking import Unpacked, readable


class Parquet(FileKind):
    """A Parquet file: a document for each row, read a few rows at a time."""

    suffixes = (".parquet",)

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The texts of its column `field`."""
        from pyarrow.parquet import ParquetFile
        from pyarrow.types import is_nested

        with readable(file.path), ParquetFile(file.path) as table:
            name = column_of(table.schema_arrow, field, str(file.path))
            _require_bounded(table.metadata, name, file)
            texts = [] if is_nested(table.schema_arrow.field(name).type) else [name]
        # Read as a dictionary, a text that stands in many rows is held once.
        with readable(file.path), ParquetFile(file.path, read_dictionary=texts) as table:
            columns = (batch[name] for batch in table.iter_batches(batch_size=ROWS, columns=[name]))
            yield from numbered(file.name, values(columns, Unpacked(file.path)))


def _require_bounded(about: Any, field: str, file: File) -> None:
    """Raise DataError if the column is declared to unpack to more than any text would.

    A page is unpacked as a whole, and each value, even a null, takes some memory.
    """
    unpacked = Unpacked(file.path)
    for group in map(about.row_group, range(about.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if f"{column.path_in_schema}.".startswith(f"{field}."):
                unpacked.add(max(column.total_uncompressed_size, column.num_values))
