"""Small changes of our own code, one at a time in a copy, against the tests that run the changed lines: which does no test notice?

    make mutants                                # or, with its numbers:
    python tests/mutants/run.py [--count 150] [--by-hand 50] [--seed 0] [--seconds 60] [--files 12] [--only WORD]

What each test of a file runs is recorded when the file is first needed (`lines.py`). Tried are the tests that run a changed line: of the
files that are recorded, and of as many more as make `--files`, the nearest to the changed file first (`nearest.py`), of each file the
cheapest first, until one fails, or until those tried took `--seconds` of CPU unchanged; last those of `_WHOLE`, however long they take.
What was tried stands in `build/mutants/SEED.jsonl` and is not tried again; the table is printed at the end.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from changes import Change, draw
from forks import PASSED, forked, load, run_tests
from lines import Chosen, Lines, Traced
from nearest import nearest

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "mutants"

_NEAREST = 3  # files of tests
# By room: tests that hold whole runs against an independent computation, and those of several processes, whose lines are not recorded.
_WHOLE = {
    "runs": ("test_recomputed.py", "test_run.py", "test_goals.py"),
    "training": ("test_recomputed.py", "test_distributed.py"),
    "runtime": ("test_distributed.py",),
}
_WHOLE_SECONDS = 120.0
Try = tuple[list[str], list[str], float]  # the tests by name, or none for all; pytest's arguments; seconds of CPU
_SLOWER = 4  # times what the tests take unchanged: a change that needs more goes round in a circle


def main() -> None:
    """Draw, try what is left to try, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150, help="how many changes")
    parser.add_argument("--by-hand", type=int, default=50, help="how many of them from wiring.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument(
        "--seconds", type=float, default=60, help="of CPU that the tests of one change may take unchanged"
    )
    parser.add_argument(
        "--files", type=int, default=12, help="of tests that are recorded for one change, where none is known to run it"
    )
    parser.add_argument("--only", default="", help="only changes whose path or text holds this")
    asked = parser.parse_args()
    results = Results(BUILD / f"{asked.seed}.jsonl")
    drawn = [
        each for each in draw(ROOT, asked.count, asked.by_hand, asked.seed) if asked.only in f"{each.path} {each.old}"
    ]
    with tempfile.TemporaryDirectory() as scratch:
        trial = Trial(copied(Path(scratch) / "copy"), asked.seconds, asked.files)
        load(trial.copy)
        for change in drawn:
            if change.name not in results.rows:
                results.add({**asdict(change), "name": change.name, **trial.of(change)})
                print(told(results.rows[change.name]), flush=True)
    print(table([results.rows[change.name] for change in drawn]))


def _failed(said: str) -> list[str]:
    """The tests that failed, of what pytest said."""
    return [line.split(" ")[1] for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]


class Results:
    """What was tried before, by the change's name."""

    def __init__(self, path: Path):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = map(json.loads, path.read_text().splitlines() if path.exists() else [])
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in rows}

    def add(self, row: dict[str, Any]) -> None:
        self.rows[row["name"]] = row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def copied(place: Path) -> Path:
    """The files of the repository, as they stand."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


class Trial:
    """Tries changes in `copy`; what each file of tests runs unchanged is recorded when it is first needed."""

    def __init__(self, copy: Path, seconds: float, files: int):
        self.copy, self.seconds, self.files = copy, seconds, files
        self.lines: dict[str, Lines] = {}
        self.failing: dict[str, list[str]] = {}
        self.sources = blake2b(digest_size=8)
        for path in sorted((copy / "src").rglob("*.py")):
            self.sources.update(f"{path.relative_to(copy)} ".encode() + path.read_bytes())

    def of(self, change: Change) -> dict[str, Any]:
        """Whether a test notices the change: which one, or that none did, and how many were tried."""
        file, began = self.copy / change.path, time.monotonic()
        source, status = file.read_bytes(), file.stat()
        found: dict[str, Any] = {"noticed": False, "by": "", "tests": 0}
        for names, arguments, cost in itertools.chain(self._chosen(change, change.lines(source)), self._whole(change)):
            file.write_bytes(change.applied(source))
            try:
                chosen = (Chosen(names),) if names else ()
                code, said = forked(lambda: run_tests(self.copy, [*arguments, "-x"], chosen), _SLOWER * cost + 60)  # noqa: B023
            finally:
                file.write_bytes(source)
                os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
            found["tests"] += len(names)
            if code not in PASSED:
                found |= {"noticed": True, "by": next(iter(_failed(said)), "the limit of time, or a crash")}
                break
        return {**found, "line": change.lines(source).start, "seconds": round(time.monotonic() - began)}

    def _chosen(self, change: Change, lines: range) -> Iterator[Try]:
        """The tests of each file that run one of the lines, as long as there is time for them, and what they take."""
        left = self.seconds
        for file in self._files(change, lines):
            names, cost, known = list[str](), 0.0, self._lines(file)
            for test in known.running(change.path, lines):
                own = known.cost(test) if names else known.first_cost(test)
                if cost + own <= left:
                    names.append(test)
                    cost += own
            if names:
                yield names, [file], cost
            left -= cost

    def _whole(self, change: Change) -> Iterator[Try]:
        """The files of `_WHOLE`, without the tests that fail unchanged."""
        room = Path(change.path).relative_to("src/inheritune").parts[0]
        for name in _WHOLE.get(room, ()):
            file = f"tests/runs/{name}"
            if file not in self.failing:
                _, said = forked(lambda: run_tests(self.copy, [file]), 10 * _WHOLE_SECONDS)  # noqa: B023
                self.failing[file] = _failed(said)
            yield [], [file, *(f"--deselect={test}" for test in self.failing[file])], _WHOLE_SECONDS

    def _files(self, change: Change, lines: range) -> list[str]:
        """The files of tests that are known to run a changed line, and as many others as `--files` leaves, the nearest first.

        The very nearest are asked however many files further off are known to run the line.
        """
        order = nearest(self.copy, change.path)
        known = [file for file in order if self._place(file).exists()]
        running = [file for file in known if self._lines(file).running(change.path, lines)]
        others = [file for file in order if file not in known][: max(0, self.files - len(running))]
        return sorted({*order[:_NEAREST], *running, *others}, key=order.index)

    def _lines(self, file: str) -> Lines:
        if file not in self.lines:
            place = self._place(file)
            if not place.exists():
                traced = (Traced(self.copy, place),)
                _, said = forked(lambda: run_tests(self.copy, [file], traced), limit=3600)
                assert place.exists(), f"{file} cannot be run:\n{said}"
            self.lines[file] = Lines(place)
        return self.lines[file]

    def _place(self, file: str) -> Path:
        """Where it is recorded what a file of tests runs: a name for the file and all sources as they are."""
        seen = self.sources.copy()
        seen.update(f"{file} ".encode() + (self.copy / file).read_bytes())
        return BUILD / "lines" / f"{seen.hexdigest()}.json"


def told(row: dict[str, Any]) -> str:
    """A row in a line."""
    change = f"`{row['old'].splitlines()[0][:60]}` → `{row['new'].splitlines()[0][:60] if row['new'] else ''}`"
    verdict = f"noticed by {row['by']}" if row["noticed"] else "SURVIVED"
    return f"{row['path']}:{row['line']} {row['kind']}: {change}: {verdict} ({row['seconds']} s)"


def table(rows: list[dict[str, Any]]) -> str:
    """Rates by kind, and what survived."""
    kinds = sorted({row["kind"] for row in rows})
    lines = ["| kind | changes | noticed | |", "|---|---|---|---|"]
    for name, held in [*((kind, [row for row in rows if row["kind"] == kind]) for kind in kinds), ("all", rows)]:
        noticed = sum(row["noticed"] for row in held)
        lines.append(f"| {name} | {len(held)} | {noticed} | {100 * noticed / max(1, len(held)):.0f}% |")
    lines += ["", *(f"- {told(row)}" for row in rows if not row["noticed"])]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
