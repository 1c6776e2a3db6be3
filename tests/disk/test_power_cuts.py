"""Power cuts, not only kills: each file is on the disk before it is moved, its folder after, the old one until then."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from power import broken_rules, recorded
from safetensors.torch import save_file
from shell import command

from inheritune.disk import folders
from inheritune.disk.files import append, make_folder, write_text
from inheritune.disk.folders import whole_folder
from inheritune.report import pictures

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")


def a_file(root: Path) -> None:
    write_text(root / "a", "one")
    write_text(root / "a", "two")


def lines(root: Path) -> None:
    append(root / "log", "one\n")
    append(root / "log", "two\n")


def a_folder(root: Path) -> None:
    """Made twice, deep below: the second time in place of the first."""
    for _ in range(2):
        with whole_folder(root / "deep" / "below" / "dest") as beside:
            save_file({"a": torch.zeros(1)}, beside / "weights")
            (beside / "inner").mkdir()
            (beside / "inner" / "text").write_text("text")


WAYS: dict[str, Callable[[Path], None]] = {"a file": a_file, "lines": lines, "a folder": a_folder}


def keeps_the_rules(root: Path, act: Callable[[], Any], but: tuple[str, ...] = ()) -> None:
    """`act` keeps them, and would break them with any one of its syncs left out, `but` those that other acts need."""
    with recorded(root) as events:
        act()
    assert broken_rules(events, root) == []
    sites = {event.site for event in events if event.name == "sync" and event.site.split(":")[1] not in but}
    assert sites
    for site in sites:
        assert broken_rules(events, root, without=site), f"nothing is lost without the sync at {site}"


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("way", WAYS)
def test_the_ways_to_write(way: str, exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    keeps_the_rules(tmp_path, lambda: WAYS[way](tmp_path))


def test_a_run(
    tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own files, its checkpoints, its model, and the prepared text."""
    monkeypatch.setenv("INHERITUNE_CACHE", str(tmp_path / "root" / "cache"))
    monkeypatch.setattr(pictures, "inline_svg", lambda _figure, name: f"<svg id='{name}'/>")
    tree["training"] |= {"tokens": 768, "checkpoint_every": 1, "checkpoints_kept": 1}
    recipe, root = write_recipe(tree), tmp_path / "root"
    make_folder(root)

    def run() -> None:
        ended = command("run", recipe, "--out", str(root / "out"), "--quiet")
        assert ended.code == 0, ended.err

    keeps_the_rules(root, run, but=("append",))


def test_a_cut_over_another(gpt2: Path, tmp_path: Path) -> None:
    def inherit(*more: str) -> None:
        ended = command("inherit", str(gpt2), str(tmp_path / "dest"), "--blocks", "0-1", "--no-prove", *more)
        assert ended.code == 0, ended.err

    inherit()
    keeps_the_rules(tmp_path, lambda: inherit("--force"), but=("whole_file", "make_folder"))


def test_prepared_text(gpt2: Path, corpus: Path, tmp_path: Path) -> None:
    def prepare() -> None:
        source, dest = str(corpus / "words.jsonl"), str(tmp_path / "tokens")
        ended = command("prepare", source, dest, "--tokenizer", str(gpt2), "--valid-share", "0.3", "--quiet")
        assert ended.code == 0, ended.err

    keeps_the_rules(tmp_path, prepare)
