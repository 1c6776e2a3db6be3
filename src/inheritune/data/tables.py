"""Documents of tables: Parquet and Arrow files, datasets that were saved, and datasets of the hub, streamed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inheritune.config.sections import Source
from inheritune.data.documents import Document, told_kind
from inheritune.data.files import File, readable
from inheritune.errors import DataError
from inheritune.models.find import SECONDS, answers

_ROWS = 32
HUB = "hf:"


def parquet(file: File, field: str) -> Iterator[Document]:
    """A document for each row of a Parquet file, read a few rows at a time."""
    from pyarrow.parquet import ParquetFile

    with readable(file.path), ParquetFile(file.path) as table:
        _require_column(table.schema_arrow.names, field, str(file.path))
        batches = table.iter_batches(batch_size=_ROWS, columns=[field])
        yield from _documents(file.name, str(file.path), field, _column(batches, field))


def arrow(file: File, field: str) -> Iterator[Document]:
    """A document for each row of an Arrow file or stream, memory-mapped."""
    import pyarrow

    with readable(file.path), pyarrow.memory_map(str(file.path)) as mapped:
        try:
            opened = pyarrow.ipc.open_file(mapped)
            batches = (opened.get_batch(number) for number in range(opened.num_record_batches))
        except pyarrow.ArrowInvalid:
            mapped.seek(0)
            batches = opened = pyarrow.ipc.open_stream(mapped)
        _require_column(opened.schema.names, field, str(file.path))
        yield from _documents(file.name, str(file.path), field, _column(batches, field))


def is_saved(path: Path) -> bool:
    """Whether a folder is what `datasets` writes with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def saved(source: Source, field: str) -> Iterator[Document]:
    """A document for each row of a dataset that `datasets` saved to a folder."""
    from datasets import DatasetDict, load_from_disk

    path = Path(source.source).expanduser()
    with _refusals(source):
        dataset: Any = load_from_disk(path)
        if isinstance(dataset, DatasetDict):
            dataset = dataset[_split(source, list(dataset))]
        elif source.split not in (None, str(dataset.split)):
            raise DataError(f"{source.source!r} has no split {source.split!r}: it is a single one, {dataset.split}")
        _require_column(dataset.column_names, field, source.source)
        batches = dataset.select_columns([field]).with_format("arrow").iter(_ROWS)
        yield from _documents(f"{path.name}/{dataset.split}", source.source, field, _column(batches, field))


def hub(source: Source, field: str) -> Iterator[Document]:
    """A document for each row of a dataset of the hub, streamed; DataError without network, dataset or split."""
    from datasets import load_dataset

    if not answers(source.source):
        raise DataError(
            f"{source.source!r} cannot be streamed: the hub does not answer within {SECONDS:.0f} s; check the network, or"
            " give a folder"
        )
    name, split = source.source.removeprefix(HUB), source.split or "train"
    with _refusals(source):
        dataset = load_dataset(name, source.name, split=split, revision=source.revision, streaming=True)
        texts = (_of_row(row, field, source.source) for row in dataset)
        yield from _documents(f"{name}/{source.name or ''}/{split}", source.source, field, texts)


def _of_row(row: Any, field: str, source: str) -> Any:
    _require_column(list(row), field, source)
    return row[field]


def _split(source: Source, there: list[str]) -> str:
    wanted = source.split or "train"
    if wanted not in there:
        raise DataError(f"{source.source!r} has no split {wanted!r}: name one of {', '.join(there)} as split")
    return wanted


@contextmanager
def _refusals(source: Source) -> Iterator[None]:
    """What `datasets` and the hub say, in one sentence of ours."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(
            f"the dataset {source.source!r} cannot be read ({first}): check its id, name, split and the network"
        ) from None


def _require_column(names: list[str], field: str, source: str) -> None:
    if field not in names:
        raise DataError(f"{source!r} has no column {field!r}: name one of {', '.join(names)} in data.field (--field)")


def _column(batches: Iterable[Any], field: str) -> Iterator[Any]:
    for batch in batches:
        column = batch[field]
        # Offsets of a file may lead anywhere in memory, and its text need not be UTF-8.
        column.validate(full=True)
        yield from (value.as_py() for value in column)


def _documents(name: str, source: str, field: str, texts: Iterable[Any]) -> Iterator[Document]:
    for number, text in enumerate(texts, 1):
        if text is not None and not isinstance(text, str):
            raise DataError(
                f"row {number} of {source!r} has no text in {field!r} but {told_kind(text)}: name a column of text in"
                " data.field (--field)"
            )
        if text and text.strip():
            yield Document(f"{name}#{number}", text)
