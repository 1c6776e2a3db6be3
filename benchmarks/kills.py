"""Kills a tiny whole run at every crash point and at random moments, continues it, and compares every bit.

    python benchmarks/kills.py [--every 1] [--random 50] [--seed 0]

prints the table of docs/results/kills.md. A crash point is the moment before or after a write, rename or delete in the
run's folder or the cache, or halfway through a write (`tests/runs/crash.py`); points that leave the same files count
once. Random kills are SIGKILLs sent to a process after a time drawn evenly from the length of a whole run.
"""

import argparse
import os
import platform
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runs"))

import torch
import transformers
import yaml
from crash import in_a_fork, restore, traced
from test_killed import found
from tiny import VOCABULARY, recipe_tree, trained_model, words

from inheritune import run
from inheritune.data.vocabulary import train_tokenizer
from inheritune.report import page

KINDS = ("opening", "halfway", "rename", "replace", "safetensors", "mkdir", "unlink", "remove", "rmdir")


def main() -> None:
    """Trace, kill, continue, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="try each Nth crash point only")
    parser.add_argument("--random", type=int, default=50, help="how many kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    drawn: list[Any] = []
    draw = page.pictures
    page.pictures = lambda run: drawn[0] if drawn else drawn.append(draw(run)) or drawn[0]  # drawn once: not looked at
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "root"
        place.mkdir()
        os.environ["INHERITUNE_CACHE"] = str(place / "cache")
        recipe, out = tiny_recipe(Path(scratch)), str(place / "out")
        points = traced(place, lambda: run(recipe, out=out))
        whole = found(place / "out")

        def go_on() -> None:
            run(recipe, out=out)
            after = found(place / "out")
            assert not [key for key in whole if after[key] != whole[key]]

        rows = {}
        for kind in KINDS:
            tried = [point for point in points[:: asked.every] if kind in point.name.split()[:2]]
            rows[f"crash points: {kind}"] = [
                survived(lambda p=point: restore(p.files, place), go_on) for point in tried
            ]
        restore({}, place)
        began = time.monotonic()
        assert in_a_fork(go_on) == 0
        length, source = time.monotonic() - began, random.Random(asked.seed)
        moments = [source.uniform(0, length) for _ in range(asked.random)]
        rows["random moments"] = [survived(lambda m=m: killed(m, go_on, place), go_on) for m in moments]
    show(rows, len(points))


def tiny_recipe(folder: Path) -> str:
    """A recipe of two rounds with a tiny trained GPT-2 of five blocks, as the tests use it."""
    source = random.Random(7)
    texts = [words(source, source.randint(30, 60)) for _ in range(150)]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    trained_model("gpt2", texts, tokenizer).save_pretrained(folder / "reference")
    tokenizer.save_pretrained(folder / "reference")
    (folder / "words.txt").write_text("\n\n".join(texts * 4))
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe_tree(folder / "reference", folder / "words.txt")))
    return str(path)


def survived(death: Any, go_on: Any) -> bool:
    """Whether the run ends with the same bits after a death."""
    death()
    return in_a_fork(go_on) == 0


def killed(seconds: float, go_on: Any, place: Path) -> None:
    """Start afresh and SIGKILL the process after some time."""
    restore({}, place)
    child = os.fork()
    if child == 0:
        go_on()
        os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def show(rows: dict[str, list[bool]], points: int) -> None:
    """The table, in Markdown."""
    print("| killed at | times | continued to the same bits |\n|---|---|---|")
    for name, ends in rows.items():
        print(f"| {name} | {len(ends)} | {sum(ends)} |")
    every = [end for ends in rows.values() for end in ends]
    print(f"| **all** | **{len(every)}** | **{sum(every)}** |")
    print(
        f"\n{points} distinct crash points in the traced run. torch {torch.__version__}, transformers {transformers.__version__},"
        f" Python {platform.python_version()}, {platform.machine()}, one thread."
    )
    sys.exit(0 if all(every) else 1)


if __name__ == "__main__":
    main()
