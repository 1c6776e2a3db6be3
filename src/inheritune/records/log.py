"""Read `metrics.jsonl`: its complete lines, each as a row of its kind."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from inheritune.disk.files import read_whole
from inheritune.disk.seals import BrokenSealError, sealing, unsealed
from inheritune.errors import OutputError
from inheritune.records.entry import Entry, first_fault
from inheritune.records.rows import ROW, MetricsRow

RowKind = TypeVar("RowKind", bound=Entry)
_MOST = 1 << 36  # bytes; with one line per step no run comes near


def rows(path: Path) -> list[MetricsRow]:
    """Read every complete row; a line broken off by a kill is left out. Raises OutputError, which names a damaged line."""
    key = sealing(path)
    return [_parsed(path, key, line, number) for number, line in enumerate(_lines(path), 1)]


def rows_of(path: Path, kind: type[RowKind], last: int | None = None) -> list[RowKind]:
    """Read the rows of one kind, or only the `last` of them, without parsing the others."""
    start = json.dumps({"kind": kind.model_fields["kind"].default})[:-1].encode()
    lines = [(number, line) for number, line in enumerate(_lines(path), 1) if line.startswith(start)]
    return list(_of_kind(path, lines if last is None else lines[-last:], kind))


def _of_kind(path: Path, lines: list[tuple[int, bytes]], kind: type[RowKind]) -> Iterator[RowKind]:
    key = sealing(path)
    for number, line in lines:
        if isinstance(row := _parsed(path, key, line, number), kind):
            yield row


def _lines(path: Path) -> list[bytes]:
    try:
        lines = read_whole(path, most=_MOST).splitlines(keepends=True) if path.exists() else []
    except OSError as error:
        raise OutputError(f"{str(path)!r} cannot be read ({error.strerror}): name another --out") from None
    return [line for line in lines if line.endswith(b"\n")]


def _parsed(path: Path, key: bytes, line: bytes, number: int) -> MetricsRow:
    try:
        return ROW.validate_json(unsealed(line, key), strict=True)
    except (ValidationError, BrokenSealError) as error:
        raise OutputError(
            f"line {number} of {str(path)!r} is damaged, or of another version ({first_fault(error)}): bring the file back"
            " from a copy, or name another --out"
        ) from None
