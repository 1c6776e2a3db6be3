"""Power cuts, not only kills: each file is on the disk before it is moved, its folder after, the old one until then."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from power import Event, broken_rules, recorded
from safetensors.torch import save_file
from shell import command

from inheritune.disk import folders
from inheritune.disk.files import append, make_folder, sync, write_text
from inheritune.disk.folders import recover, whole_folder
from inheritune.disk.locks import LOCK
from inheritune.formats.gguf import make_gguf
from inheritune.models import llama_cpp
from inheritune.progress import Progress
from inheritune.report import pictures
from inheritune.runtime.background import Background

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


def put_back(root: Path) -> None:
    """What a command that died between two renames had moved aside."""
    old = folders.beside(root / "dest").with_name("old")
    make_folder(old)
    (old.parent / LOCK).touch()
    write_text(old / "text", "text")
    recover(root / "dest")
    assert (root / "dest" / "text").read_text() == "text"


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
    """Its own files, its checkpoints, its model, and the prepared text. What two threads do stands in one order here."""
    monkeypatch.setattr(Background, "begin", lambda _self, work: work())
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


def prepare(model: Path, text: Path, root: Path) -> None:
    line = ("prepare", str(text), str(root / "tokens"), "--tokenizer", str(model), "--valid-share", "0.3", "--quiet")
    ended = command(*line)
    assert ended.code == 0, ended.err


def test_prepared_text(gpt2: Path, corpus: Path, tmp_path: Path) -> None:
    keeps_the_rules(tmp_path, lambda: prepare(gpt2, corpus / "words.jsonl", tmp_path))


def a_gguf(model: Path, root: Path) -> None:
    """A model as a GGUF file, by a converter that writes two lines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(llama_cpp, "convert", lambda _folder, out, width: write_text(out, f"GGUF\n{width}\n"))
        make_gguf(model, root / "a.gguf", None, False, Progress(quiet=True))
    assert (root / "a.gguf").read_text() == "GGUF\nf32\n"


def test_a_gguf_file(gpt2: Path, tmp_path: Path) -> None:
    """Whole on the disk before it is moved, and its folder right after. The folder in which it was made need not last."""
    with recorded(tmp_path) as events:
        a_gguf(gpt2, tmp_path)
    place = next(number for number, event in enumerate(events) if event.to == tmp_path / "a.gguf")
    assert any(event.name == "sync" and event.path.suffix == ".inheritune" for event in events[:place])
    assert (events[place + 1].name, events[place + 1].path) == ("sync", tmp_path)


SOURCE = Path(folders.__file__).parents[1]


def syncs() -> Iterator[str]:
    """Every call of `sync` or `os.fsync` in the source but that in `sync` itself: file, function and line, as the recorder names it."""
    for path in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in ("sync", "make_gguf"):  # test_a_gguf_file
                calls = (part for part in ast.walk(function) if isinstance(part, ast.Call))
                lines = [call.lineno for call in calls if ast.unparse(call.func).split(".")[-1] in ("sync", "fsync")]
                yield from (f"{path.relative_to(SOURCE)}:{function.name}:{line}" for line in lines)


@pytest.fixture(scope="module")
def acts(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Event]]:
    """What each way to write does in a folder of its own."""
    ways = [*WAYS.values(), put_back, lambda root: prepare(gpt2, corpus / "words.jsonl", root)]
    done = {}
    for way in ways:
        root = tmp_path_factory.mktemp("root")
        with recorded(root) as events:
            way(root)
        assert not broken_rules(events, root)
        done[root] = events
    return done


@pytest.mark.parametrize("site", syncs())
def test_something_is_lost_without_each_sync_of_the_source(site: str, acts: dict[Path, list[Event]]) -> None:
    assert any(broken_rules(events, root, without=site) for root, events in acts.items())


def test_the_one_way_to_sync_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All the other places call `sync`, which the recorder leaves out of the names that it gives them."""
    done = list[int]()
    monkeypatch.setattr("os.fsync", done.append)
    for path in (tmp_path, tmp_path / "a"):
        (tmp_path / "a").touch()
        sync(path)
    assert len(done) == 2
