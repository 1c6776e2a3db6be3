"""`metrics.jsonl`: one object a line, cut back to the checkpoint when a run continues, so that no step stands twice."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inheritune.disk.files import append, no_link, write_text
from inheritune.errors import OutputError
from inheritune.runtime import processes

Row = dict[str, Any]


class Metrics:
    """The metrics of one run, appended row by row, and told to each of `trackers`."""

    def __init__(self, path: Path, trackers: Sequence[Callable[[Row], None]] = ()):
        self.path, self.trackers = path, trackers
        self._mended = False

    def add(self, row: Row) -> None:
        """Append one row; the main process does."""
        if not processes.is_main():
            return
        try:
            self._mend()
            append(self.path, json.dumps(row) + "\n")
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

    def rows(self, kind: str | None = None) -> list[Row]:
        """Every whole row so far (a line broken off by a kill is none), or those of a kind, without parsing the others."""
        if not self.path.exists():
            return []
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        held = "" if kind is None else f'"kind": "{kind}"'
        return [json.loads(line) for line in lines if line.endswith("\n") and held in line]

    def keep(self, wanted: Callable[[Row], bool]) -> None:
        """Drop the rows that are not wanted, in one atomic step; the main process does."""
        if not processes.is_main():
            return
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in self.rows() if wanted(row)))
