"""A half-done run whose files are damaged one by one: each is told in one sentence, or the run ends as if nothing had happened."""

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import command
from test_killed import ROUNDS, dies, found, kill_at_call
from tiny import recipe_tree

ALL = os.environ.get("INHERITUNE_FUZZ")  # every damage to every file, which takes minutes
_LEFT_OUT = (".lock", "report.html")


def flipped(content: bytes) -> bytes:
    """A bit in the midst of it: of a digit where there is one, so that it stays a record."""
    digits = [place.start() for place in re.finditer(rb"[0-9]", content)] if content.isascii() else []
    at = digits[len(digits) // 2] if digits else len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "a bit flipped": flipped,
    "cut short": lambda content: content[: len(content) * 2 // 3],
    "empty": lambda content: b"",
    "missing": lambda content: None,
}
ANOTHERS = "replaced by another run's"


@pytest.fixture(scope="module")
def halves(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """A recipe, its run that died after the second of its two rounds was trained, and such a run with another seed."""
    tree = recipe_tree(gpt2, corpus / "words.jsonl")
    tree["choice"] |= {"heal": True}
    tree["training"] |= {"tokens": 512, "evaluate_every": 1, "checkpoint_every": 1, "checkpoints_kept": 1}
    made = []
    for seed in (0, 1):
        folder = tmp_path_factory.mktemp("half")
        (folder / "recipe.yaml").write_text(yaml.safe_dump(tree | {"seed": seed}))
        recipe = str(folder / "recipe.yaml")
        dies(lambda patch: kill_at_call(patch, ROUNDS, "train_to_end", 2, after=True), recipe, folder / "out")
        made.append((recipe, folder / "out"))
    return made[0][0], made[0][1], made[1][1]


@pytest.fixture(scope="module")
def whole(halves: tuple[str, Path, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run comes to when nothing is damaged."""
    out = tmp_path_factory.mktemp("whole") / "out"
    shutil.copytree(halves[1], out)
    assert command("run", halves[0], "--out", str(out), "--quiet").code == 0
    return found(out)


def damaged(folder: Path) -> list[tuple[str, str]]:
    """Which file suffers what: each a flipped bit, and one damage more."""
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name not in _LEFT_OUT)
    others = [*list(DAMAGES)[1:], ANOTHERS]
    more = [(name, kind) for at, name in enumerate(names) for kind in (others if ALL else [others[at % len(others)]])]
    return [(name, "a bit flipped") for name in names] + more


def test_each_is_told_or_harmless(halves: tuple[str, Path, Path], whole: dict[str, Any], tmp_path: Path) -> None:
    recipe, half, other = halves
    tries = damaged(half)
    random.Random(0).shuffle(tries)
    told, wrong = 0, []
    for at, (name, kind) in enumerate(tries):
        out = tmp_path / str(at)
        shutil.copytree(half, out)
        content = (other / name).read_bytes() if kind == ANOTHERS else DAMAGES[kind]((half / name).read_bytes())
        (out / name).unlink()
        if content is not None:
            (out / name).write_bytes(content)
        ended = command("run", recipe, "--out", str(out), "--quiet")
        said = ended.err.strip().splitlines()
        if ended.code == 2:
            told += 1
            sound = len(said) == 1 and said[0].startswith("inheritune: ") and ("Traceback" not in ended.out)
        else:
            after = found(out)
            if name == "made_of.json":  # nothing tells any more what the folder was made of, and that is said
                assert "was begun without made_of.json" in after["result"].pop("message")
                after["result"]["message"] = whole["result"]["message"]
            sound = ended.code == 0 and after == whole
        if not sound:
            wrong.append(f"{name}, {kind}: {ended.code} {said[-1:]}")
        shutil.rmtree(out)
    assert not wrong, "\n".join(wrong)
    assert told >= len(tries) // 3


@pytest.mark.parametrize("name", ["begin.json", "choice.json", "untrained.json", "reference.json", "looks.json"])
def test_a_flipped_bit_in_a_small_record_is_told(name: str, halves: tuple[str, Path, Path], tmp_path: Path) -> None:
    recipe, half, _ = halves
    if not (half / name).exists():
        pytest.skip(f"this run writes no {name}")
    shutil.copytree(half, tmp_path / "out")
    (tmp_path / "out" / name).write_bytes(flipped((half / name).read_bytes()))
    ended = command("run", recipe, "--out", str(tmp_path / "out"), "--quiet")
    assert ended.code == 2 and f"{name}' is damaged (it is not what was written there)" in ended.err
