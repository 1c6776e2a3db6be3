"""Where text comes from: one name for every kind of source (docs/data.md)."""

import json
from collections.abc import Iterator
from pathlib import Path

from inheritune.config.sections import Source, told
from inheritune.data import docstrings, tables, text
from inheritune.data.docstrings import DOCSTRINGS
from inheritune.data.documents import LONGEST, Document
from inheritune.data.files import IDS, ROWS, TEXT, File, files
from inheritune.errors import DataError

MANIFEST = "manifest.json"


def documents(source: Source | str, field: str = "text") -> Iterator[Document]:
    """The documents of a source of text, streamed: a section of running text, or a row of JSONL or a table, each.

    Raises DataError for what is missing, empty, damaged, not UTF-8, or not what its name says.
    """
    source = Source(source=source) if isinstance(source, str) else source
    found = False
    for document in _documents(source, source.field or field):
        if len(document.text) > LONGEST:
            raise DataError(
                f"{document.name!r} in {source.source!r} has more than {LONGEST >> 20} MB: cut it into documents"
            )
        found = True
        yield document
    if not found:
        raise DataError(f"{source.source!r} holds no text: give a source with at least one document")


def _documents(source: Source, field: str) -> Iterator[Document]:
    place = source.source
    if place == DOCSTRINGS:
        yield from docstrings.docstrings()
    elif place.startswith(tables.HUB):
        yield from tables.hub(source, field)
    elif tables.is_saved(Path(place).expanduser()):
        yield from tables.saved(source, field)
    elif is_prepared(source):
        raise DataError(f"{place!r} holds tokens, and text is needed here: give its text")
    else:
        for file in plain_files(source):
            yield from _of_file(file, field)


def _of_file(file: File, field: str) -> Iterator[Document]:
    if file.kind in IDS:
        raise DataError(f"{str(file.path)!r} holds tokens, and text is needed here: give its text")
    if file.kind in ROWS:
        return text.rows(file, field)
    if file.kind in TEXT:
        return text.sections(file)
    return tables.parquet(file, field) if file.kind == ".parquet" else tables.arrow(file, field)


def plain_files(source: Source) -> list[File]:
    """The files of a source that is no dataset; DataError if it is asked for what only datasets have."""
    for key in ("name", "split", "revision"):
        if value := getattr(source, key):
            raise DataError(f"{source.source!r} is no dataset and has no {key} {value!r}: leave `{key}` out")
    return files(source.source)


def is_plain(source: Source) -> bool:
    """Whether a source is made of files of text or tokens."""
    place = source.source
    return not (place == DOCSTRINGS or place.startswith(tables.HUB) or tables.is_saved(Path(place).expanduser()))


def is_prepared(source: Source) -> bool:
    """Whether a source is a folder of `inheritune prepare`."""
    return (Path(source.source).expanduser() / MANIFEST).is_file()


def require(sources: list[Source]) -> None:
    """Raise DataError where a source is not there, without reading it; the hub is not asked."""
    for source in sources:
        if not (source.source == DOCSTRINGS or source.source.startswith(tables.HUB)):
            fingerprint(source)
        elif source.source == tables.HUB:
            raise DataError(f"{told([source])} names no dataset: write hf:OWNER/NAME")


def fingerprint(source: Source) -> str:
    """What a source's content depends on, without reading it: packages and versions, or files' names, sizes and times."""
    place = Path(source.source).expanduser()
    if source.source == DOCSTRINGS:
        return docstrings.fingerprint()
    if source.source.startswith(tables.HUB):
        return json.dumps([source.source, source.name, source.split, source.revision])
    if tables.is_saved(place) or is_prepared(source):
        paths = sorted(path for path in place.rglob("*") if path.is_file())
    else:
        paths = [file.path for file in plain_files(source)]
    return json.dumps([source.split, *((str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns) for p in paths)])
