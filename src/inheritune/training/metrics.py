"""`metrics.jsonl`: one object a line, cut back to the checkpoint when a run continues, so that no step stands twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from inheritune.disk.files import append, no_link, write_text
from inheritune.disk.seals import sealed, sealing
from inheritune.errors import OutputError
from inheritune.records import log
from inheritune.records.rows import MetricsRow, SkippedRow, StepRow
from inheritune.runtime import processes


class Metrics:
    """The metrics of one run, appended row by row, and told to each of `trackers`."""

    def __init__(self, path: Path, trackers: Sequence[Callable[[MetricsRow], None]] = ()):
        self.path, self.trackers = path, trackers
        self._mended = False

    def add(self, row: MetricsRow) -> None:
        """Append one row, in the main process alone."""
        if not processes.is_main():
            return
        try:
            self._mend()
            append(self.path, _line(row, sealing(self.path)))
        except OSError as error:
            raise OutputError(f"{str(self.path)!r} cannot be written: {error.strerror}") from None
        for tell in self.trackers:
            tell(row)

    def _mend(self) -> None:
        """Cut off, once, the part of a line that a kill may have left, so that the next row does not continue it."""
        if not self._mended and self.path.exists():
            with open(self.path, "r+b", opener=no_link) as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        self._mended = True

    def rows(self) -> list[MetricsRow]:
        """Every whole row so far, without a line broken off by a kill. Raises OutputError that names a damaged line."""
        return log.rows(self.path)

    def of(self, kind: type[log.RowKind]) -> list[log.RowKind]:
        """The rows of one kind, without reading the others."""
        return log.rows_of(self.path, kind)

    def keep(self, wanted: Callable[[MetricsRow], bool]) -> None:
        """Drop the rows that are not wanted, in one atomic step, in the main process alone."""
        if processes.is_main():
            key = sealing(self.path)
            write_text(self.path, "".join(_line(row, key) for row in self.rows() if wanted(row)))

    def require_steps(self, round_: int, count: int) -> None:
        """Raise OutputError, in the main process, unless the file has all `count` steps of a round that its checkpoint has done."""
        steps = (row for row in self.rows() if isinstance(row, StepRow | SkippedRow) and row.round == round_)
        if processes.is_main() and (found := sum(1 for _ in steps)) != count:
            raise OutputError(
                f"{str(self.path)!r} has {found} of the {count} steps that round {round_} has done: bring it back from a copy, or name"
                " another --out"
            )


def _line(row: MetricsRow, key: bytes) -> str:
    tree = {"kind": row.kind, **row.model_dump(mode="json", exclude_unset=True, by_alias=True)}
    return sealed(json.dumps(tree), key) + "\n"
