"""Small changes of our own code, one at a time in a copy, against the tests nearest to each: which ones does no test notice?

    make mutants                                # or, with its numbers:
    python tests/mutants/run.py [--count 150] [--by-hand 50] [--seed 0] [--seconds 120] [--only WORD]

Each change is tried in a fork that has the libraries loaded. Its tests end at the first failure; a file of tests takes
part while the sum of what the files take unchanged stays below `--seconds` of CPU. What was tried stands in
`build/mutants/SEED.jsonl` and is not tried again; the table is printed at the end, and is docs/results/mutants.md.
"""

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from changes import Change, draw
from nearest import nearest

ROOT = Path(__file__).resolve().parents[2]

_LOADED = ("torch", "transformers", "datasets", "matplotlib.pyplot", "hypothesis", "pytest", "pydantic", "typer")
_PASSED = (0, 5)  # pytest's exit codes where no test fails; 5: all of them are skipped
_SLOWER = 4  # times what the tests take unchanged: a change that needs more goes round in a circle


def main() -> None:
    """Draw, try what is left to try, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=150, help="how many changes")
    parser.add_argument("--by-hand", type=int, default=50, help="how many of them from wiring.yaml")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument(
        "--seconds", type=float, default=120, help="of CPU that the tests of one change may take unchanged"
    )
    parser.add_argument("--only", default="", help="only changes whose path or text holds this")
    asked = parser.parse_args()
    results = Results(ROOT / "build" / "mutants" / f"{asked.seed}.jsonl")
    drawn = [
        each for each in draw(ROOT, asked.count, asked.by_hand, asked.seed) if asked.only in f"{each.path} {each.old}"
    ]
    with tempfile.TemporaryDirectory() as scratch:
        copy = copied(Path(scratch) / "copy")
        _load()
        for change in drawn:
            if change.name not in results.rows:
                results.add({**asdict(change), "name": change.name, **tried(change, copy, results, asked.seconds)})
                print(told(results.rows[change.name]), flush=True)
    print(table([results.rows[change.name] for change in drawn]))


class Results:
    """What was tried before, by name, and what each file of tests takes unchanged."""

    def __init__(self, path: Path):
        self.path, self.rows, self.costs = path, dict[str, dict[str, Any]](), dict[str, float]()
        path.parent.mkdir(parents=True, exist_ok=True)
        for line in path.read_text().splitlines() if path.exists() else []:
            self._take(json.loads(line))

    def add(self, row: dict[str, Any]) -> None:
        self._take(row)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _take(self, row: dict[str, Any]) -> None:
        if "cost" in row:
            self.costs[row["file"]] = row["cost"]
        else:
            self.rows[row["name"]] = row


def copied(place: Path) -> Path:
    """The files of the repository, as they stand."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    return place


def tried(change: Change, copy: Path, results: Results, seconds: float) -> dict[str, Any]:
    """Whether the nearest tests notice the change: by which file, or that none did."""
    file = copy / change.path
    source = file.read_bytes()
    files: list[str] = []
    left = seconds
    for test in nearest(copy, change.path):
        if left > 0 and ((cost := _cost(test, copy, results)) <= left or not files):
            files.append(test)
            left -= cost
    limit = _SLOWER * sum(results.costs[test] for test in files) + 60
    file.write_bytes(change.applied(source))
    began = time.monotonic()
    try:
        code, said = _forked(lambda: _pytest(copy, files), limit)
    finally:
        file.write_bytes(source)
    by = next((line.split("::")[0] for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
    found = {
        "noticed": code not in _PASSED,
        "by": by or ("the limit of time" if code not in _PASSED else ""),
        "tests": files,
    }
    return {**found, "line": change.line(source), "seconds": round(time.monotonic() - began)}


def _cost(test: str, copy: Path, results: Results) -> float:
    """CPU seconds that a file of tests takes unchanged, where it must pass."""
    if test not in results.costs:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code, said = _forked(lambda: _pytest(copy, [test]), limit=1800)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert code in _PASSED, f"{test} fails unchanged:\n{said}"
        results.add({"file": test, "cost": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime})
    return results.costs[test]


def _load() -> None:
    """The libraries, once for all forks; one thread, so that forking is safe."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    for name in _LOADED:
        __import__(name)
    import torch

    torch.set_num_threads(1)


def _forked(act: Callable[[], int], limit: float) -> tuple[int, str]:
    """What `act` gives in a forked process, and what it says; one that takes more than `limit` seconds of CPU is ended."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.setsid()
            for stream in (1, 2):
                os.dup2(said.fileno(), stream)
            resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit) + 5))
            code = 70
            try:
                code = act()
            finally:
                os._exit(code)
        code = _waited(child, 20 * limit)
        said.seek(0)
        return code, said.read()


def _waited(child: int, longest: float) -> int:
    """The exit code of a child, which is killed where it hangs."""
    end = time.monotonic() + longest
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.2)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def _pytest(copy: Path, files: list[str]) -> int:
    import pytest

    os.chdir(copy)
    sys.dont_write_bytecode = True
    os.environ |= {"PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:] = [
        str(copy / "src"),
        *(entry for entry in sys.path if not entry.startswith(str(ROOT)) or ".venv" in entry),
    ]
    return int(pytest.main([*files, "-x", "--tb=no"]))


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
