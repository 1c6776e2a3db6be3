"""What gets through is harmless: names and texts in the terminal, the page and the card; clocks; keys that may change."""

import importlib
import itertools
import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest
from shell import command
from tries import Ground, make_base
from tries_machine import at

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.errors import RecipeError
from inheritune.runs.folder import close_folder, open_folder

EVIL = "<img src=x onerror=alert(1)>\x1b[31m\x07 [bold]"


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(make_base(tmp_path))


def test_names_and_texts_are_harmless_in_terminal_page_and_card(ground: Ground) -> None:
    model, text = ground.model.rename(ground.path / EVIL), ground.path / f"{EVIL}.jsonl"
    rows = [json.loads(line)["text"] + f" <script>{number}</script> \x1b[2J" for number, line in
            enumerate(ground.text.read_text().splitlines())]  # fmt: skip
    text.write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    arguments = ground.run(reference=str(model), data__train=str(text), training__tokens=256)
    ended = command(*(part for part in arguments if part != "--quiet"))
    assert ended.code == 0, ended.err
    page, card = ((ground.out / name).read_text() for name in ("report.html", "model/README.md"))
    assert "\x1b" not in ended.out + ended.err and "\x07" not in ended.out and "[bold]" in ended.out
    assert "<img" not in page and "<script" not in page and "\x1b" not in page and "&lt;img" in page
    assert "\x1b" not in card


def test_a_clock_that_jumps_back_changes_nothing(ground: Ground) -> None:
    arguments = ground.run(training__tokens=512, training__checkpoint_every=1)
    with ground.undo:
        ground.undo.enter_context(patch.object(importlib.import_module("inheritune.runs.run"), "write_report", Path))
        assert command(*arguments).code == 0
        weights = (ground.out / "model" / "model.safetensors").read_bytes()
        ground.out.rename(ground.path / "before")
        ground.undo.enter_context(patch("time.time", itertools.count(2e9, -1000).__next__))
        at(ground, "runs.lab:FolderLab.compare", lambda: (_ for _ in ()).throw(OSError(28, "full")))
        assert command(*arguments).code == 2
        for path in ground.out.rglob("*"):
            os.utime(path, (4e9, 4e9))
        assert command(*arguments).code == 0
    assert (ground.out / "model" / "model.safetensors").read_bytes() == weights


def test_keys_that_may_change_between_stops(ground: Ground) -> None:
    tree = ground.tree
    close_folder(open_folder(ground.out, check(RunRecipe, tree)))
    tree["training"] |= {"evaluate_every": 1, "checkpoint_every": 1}
    close_folder(open_folder(ground.out, check(RunRecipe, {**tree, "limits": {"max_rounds": 1}, "controls": True})))
    tree["training"]["micro_batch_size"] = 4
    with pytest.raises(RecipeError, match=r"training.micro_batch_size = 8, and this recipe says 4"):
        open_folder(ground.out, check(RunRecipe, tree))


def test_the_table_in_the_documentation_has_every_try() -> None:
    from tries_table import TABLE

    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    for kind, tries in TABLE.items():
        assert f"### {kind}\n" in text
        for tried in tries:
            assert f"| {tried.name} | {tried.code} |" in text, f"{tried.name}: python benchmarks/faults.py prints it"
