"""Text that is of no use leaves no run folder behind: the same command, mended, is not taken for another run."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import command, refused


@pytest.mark.parametrize("kind", ["missing", "too short", "damaged", "outside"])
def test_no_folder_is_left(kind: str, tree: dict[str, Any], write_recipe: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("ka lo")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "ka lo"}\n' * 99)[:-9])
    good = tree["data"]["train"]
    if kind == "outside":
        tree["data"]["outside"] = {"other": str(tmp_path / "short.txt")}
    else:
        names = {"missing": "nowhere.txt", "too short": "short.txt", "damaged": "cut.jsonl.gz"}
        tree["data"]["train"] = str(tmp_path / names[kind])
    refused("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--quiet")
    assert not (tmp_path / "out").exists()
    if kind == "missing":
        tree["data"]["train"] = good
        tree["growth"]["max_depth"] = 2
        assert command("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--quiet").code == 0
