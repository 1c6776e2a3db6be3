"""`metrics.jsonl`: one object a line, cut back to the checkpoint when a run continues, so that no step stands twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from inheritune.disk.files import append, no_link, read_whole, write_text
from inheritune.errors import OutputError
from inheritune.records.entry import Entry, first_fault
from inheritune.records.rows import ROW, MetricsRow, SkippedRow, StepRow
from inheritune.runtime import processes

RowKind = TypeVar("RowKind", bound=Entry)
_MOST = 1 << 36  # bytes: a line a step, so that no run comes near


class Metrics:
    """The metrics of one run, appended row by row, and told to each of `trackers`."""

    def __init__(self, path: Path, trackers: Sequence[Callable[[MetricsRow], None]] = ()):
        self.path, self.trackers = path, trackers
        self._mended = False

    def add(self, row: MetricsRow) -> None:
        """Append one row; the main process does."""
        if not processes.is_main():
            return
        try:
            self._mend()
            append(self.path, _line(row))
        except OSError as error:
            raise OutputError(f"{str(self.path)!r} cannot be written: {error.strerror}") from None
        for tell in self.trackers:
            tell(row)

    def _mend(self) -> None:
        """Cut off what a kill left of a line, once, so that the next row does not go on in it."""
        if not self._mended and self.path.exists():
            with open(self.path, "r+b", opener=no_link) as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        self._mended = True

    def rows(self) -> list[MetricsRow]:
        """Every whole row so far; a line broken off by a kill is none. OutputError names a line that is damaged."""
        return [self._parsed(line, number) for number, line in enumerate(self._lines(), 1)]

    def of(self, kind: type[RowKind]) -> list[RowKind]:
        """The rows of one kind, without reading the others."""
        start = json.dumps({"kind": kind.model_fields["kind"].default})[:-1].encode()
        lines = ((number, line) for number, line in enumerate(self._lines(), 1) if line.startswith(start))
        found = (self._parsed(line, number) for number, line in lines)
        return [row for row in found if isinstance(row, kind)]

    def keep(self, wanted: Callable[[MetricsRow], bool]) -> None:
        """Drop the rows that are not wanted, in one atomic step; the main process does."""
        if processes.is_main():
            write_text(self.path, "".join(_line(row) for row in self.rows() if wanted(row)))

    def require_steps(self, round_: int, count: int) -> None:
        """Raise OutputError where there are not the `count` steps of a round that its checkpoint has done; the main process looks."""
        steps = (row for row in self.rows() if isinstance(row, StepRow | SkippedRow) and row.round == round_)
        if processes.is_main() and (found := sum(1 for _ in steps)) != count:
            raise OutputError(
                f"{str(self.path)!r} has {found} of the {count} steps that round {round_} has done: bring it back from a copy, or name"
                " another --out"
            )

    def _lines(self) -> list[bytes]:
        try:
            lines = read_whole(self.path, most=_MOST).splitlines(keepends=True) if self.path.exists() else []
        except OSError as error:
            raise OutputError(f"{str(self.path)!r} cannot be read ({error.strerror}): name another --out") from None
        return [line for line in lines if line.endswith(b"\n")]

    def _parsed(self, line: bytes, number: int) -> MetricsRow:
        try:
            return ROW.validate_json(line, strict=True)
        except ValidationError as error:
            raise OutputError(
                f"line {number} of {str(self.path)!r} is damaged, or of another version ({first_fault(error)}): bring the file back"
                " from a copy, or name another --out"
            ) from None


def _line(row: MetricsRow) -> str:
    return json.dumps({"kind": row.kind, **row.model_dump(mode="json", exclude_unset=True, by_alias=True)}) + "\n"
