"""Kill tiny commands at every crash point of a run and at random moments of each, repeat them, and compare every bit.

    python benchmarks/kills.py [--every 1] [--random 100] [--seed 0]

This prints the tables of docs/results/kills.md. A crash point is the moment before or after a write, rename or delete in the
command's folder or the cache, or halfway through a write (`tests/runs/crash.py`); points that leave the same files count
once. Random kills are SIGKILLs to the commands of `kills_commands.py` in turn, each after a time drawn uniformly from the
length of the whole command. `--every 0` leaves the crash points out.
"""

import argparse
import os
import platform
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runs"))

import torch
import transformers
from crash import restore, traced
from kills_commands import COMMANDS, Ground, make_input
from shell import command

from inheritune.report import page

KINDS = ("opening", "halfway", "rename", "replace", "exchange", "safetensors", "mkdir", "unlink", "remove", "rmdir")


def main() -> None:
    """Trace, kill, go on, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try each Nth crash point only; 0: none")
    parser.add_argument("--random", type=int, default=100, help="how many kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    drawn: list[Any] = []
    draw = page.pictures
    page.pictures = lambda run: drawn[0] if drawn else drawn.append(draw(run)) or drawn[0]  # drawn once: not compared
    with tempfile.TemporaryDirectory() as scratch:
        given = Path(scratch) / "given"
        given.mkdir()
        make_input(given)
        root = Path(scratch) / "root"
        os.environ["INHERITUNE_CACHE"] = str(root / "cache")
        root.mkdir()
        command(*f"run {given}/run.yaml --out {root}/out --quiet".split())  # loads the libraries and draws the pictures
        fine = random_kills(given, root, asked.random, asked.seed)
        if asked.every:
            fine &= crash_points(given, root, asked.every)
    print(
        f"\ntorch {torch.__version__}, transformers {transformers.__version__}, Python {platform.python_version()},"
        f" {platform.machine()}, one thread."
    )
    sys.exit(0 if fine else 1)


def random_kills(given: Path, root: Path, count: int, seed: int) -> bool:
    """Kill each command by SIGKILL at random moments; return whether nothing was ever lost."""
    source, all_fine = random.Random(seed), True
    print("| command | its length | killed at random moments | nothing lost, to the same bits |\n|---|---:|---:|---:|")
    for number, killed in enumerate(COMMANDS):
        ground, ends = Ground(killed, given, root), list[bool]()
        while len(ends) < len(range(number, count, len(COMMANDS))):
            moment = source.uniform(0, ground.seconds)
            wrong = ground.wrong_after(moment, source)
            if wrong is not None:
                ends.append(not wrong)
                print(f"{killed.name} at {moment:.2f} s: {wrong or 'the same'}", file=sys.stderr, flush=True)
        print(f"| {killed.name} | {ground.seconds:.1f} s | {len(ends)} | {sum(ends)} |", flush=True)
        all_fine &= all(ends)
    return all_fine


def crash_points(given: Path, root: Path, every: int) -> bool:
    """Try every crash point of a run and of the commands that replace a model; return whether nothing was ever lost."""
    all_fine = True
    for killed in (each for each in COMMANDS if each.before or each is COMMANDS[0]):
        ground = Ground(killed, given, root)
        ground.begin()
        points = traced(root, lambda ground=ground: command(*ground.line))
        print(f"\n| {killed.name}, killed at | times | nothing lost, to the same bits |\n|---|---:|---:|")
        for kind in KINDS:
            tried = [point for point in points[::every] if kind in point.name.split()[:2]]
            ends = [fine_after(ground, point.files, point.name) for point in tried]
            all_fine &= all(ends)
            if ends:
                print(f"| {kind} | {len(ends)} | {sum(ends)} |", flush=True)
        print(f"\n{len(points)} distinct crash points in it.")
    return all_fine


def fine_after(ground: Ground, files: dict[str, bytes | None], name: str) -> bool:
    """Whether nothing is lost by a death that leaves these files."""
    restore(files, ground.root)
    wrong = ground.wrong_now() + ground.wrong_again()
    if wrong:
        print(f"{ground.killed.name} {name}: {wrong}", file=sys.stderr, flush=True)
    return not wrong


if __name__ == "__main__":
    main()
