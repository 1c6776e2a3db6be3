"""Results of a long measurement that survive a stop: a line of JSON each, read back by a process that asks the same question."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inheritune.disk.files import append, read_whole, write_text
from inheritune.disk.seals import sealed, sealing, unsealed
from inheritune.errors import OutputError

Answer = dict[str, Any]


class Kept:
    """The results of one question so far, in a file or, without a `place`, in memory alone.

    The question says everything that the results depend on. Of several processes that work together, one `writes`. Results of
    another question, and lines that a kill or an edit has damaged, are dropped. Raises OSError if the file cannot be written,
    OutputError if it is not a file of this program.
    """

    def __init__(self, place: Path | None, question: Answer, *, writes: bool = True):
        self.place, self.writes, self.results = place, writes, list[Answer]()
        if place is None:
            return
        lines = written_lines(place)
        if place.exists() and place.stat().st_size and not (lines and lines[0].keys() == question.keys()):
            raise OutputError(f"{str(place)!r} is in the way and not of this program: move it, or choose another place")
        asked = json.loads(json.dumps(question))
        self.results = lines[1:] if lines[:1] == [asked] else []
        self.key = sealing(place)
        if writes:
            write_text(place, "".join(sealed(json.dumps(line), self.key) + "\n" for line in (asked, *self.results)))

    def add(self, result: Answer) -> None:
        """Add a result, which is on the disk before this returns."""
        self.results.append(result)
        if self.place is not None and self.writes:
            append(self.place, sealed(json.dumps(result), self.key) + "\n")


def ids_digest(rows: Sequence[Sequence[int]]) -> str:
    """SHA-256 of token ids, which stands for them in a question."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def written_lines(place: Path) -> list[Answer]:
    """The question in a kept file, followed by its results: the lines before the first damaged one."""
    found: list[Answer] = []
    key = sealing(place)
    try:
        for line in read_whole(place).splitlines():
            found.append(dict(json.loads(unsealed(line, key))))
    except (OSError, ValueError, TypeError, RecursionError):
        pass
    return found
