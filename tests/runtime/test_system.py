import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inheritune.runtime import system

# psutil asks for `resource` on Linux, though not on Windows.
ELSEWHERE = """
import contextlib, os, sys, warnings
with contextlib.suppress(ImportError):
    import psutil
sys.modules["fcntl"] = sys.modules["resource"] = None
del os.fork, os.sendfile
warnings.simplefilter("ignore")
from inheritune.cli import main
from inheritune.report import pictures
pictures.inline_svg = lambda figure, name: f"<svg id='{name}'/>"
for words in eval(sys.argv[1]):
    sys.argv = ["inheritune", *words]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_a_run_a_cut_and_a_diagnosis_need_nothing_that_only_posix_has(
    tree: dict[str, Any], gpt2: Path, corpus: Path, tmp_path: Path
) -> None:
    """The locks are then files that exist, as filelock has them where it finds no others."""
    tree["training"] |= {"tokens": 512, "evaluate_every": 9}
    tree["growth"] = {"start": 2, "max_depth": 2}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    text = ["--text", str(corpus / "words.jsonl"), "--length", "16", "--sequences", "2", "--curve-sequences", "0"]
    commands = [
        ["inherit", str(gpt2), str(tmp_path / "cut"), "--blocks", "0-1", "--no-prove"],
        ["inherit", str(gpt2), str(tmp_path / "cut"), "--blocks", "1-2", "--no-prove", "--force"],
        ["diagnose", str(gpt2), *text, "--quiet"],
        ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--quiet"],
        ["run", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), "--quiet"],
    ]
    ended = subprocess.run([sys.executable, "-c", ELSEWHERE, repr(commands)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "cut" / "model.safetensors").is_file() and (tmp_path / "out" / "model").is_dir()
    assert (tmp_path / "out" / "result.json").is_file()
    assert not [path for path in tmp_path.rglob(".*")]


def test_nothing_else_asks_for_what_only_posix_has() -> None:
    """But for what runs in another Python, which has nothing of ours."""
    root = Path(system.__file__).parents[1]
    for path in root.rglob("*.py"):
        if path not in (Path(system.__file__), root / "models" / "in_llama_cpp.py"):
            text = path.read_text()
            for word in (
                "import fcntl",
                "import resource\n",
                "os.fork",
                "os.sendfile",
                "os.sysconf",
                "/proc/",
                "/dev/",
            ):
                assert word not in text, f"{path.relative_to(root)}: {word}"


def test_memory_is_told_or_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 << 20 < system.peak_host_memory() < 1 << 50 and 1 << 20 < system.free_host_memory() < 1 << 50
    there, monkeypatched = Path.exists, monkeypatch
    monkeypatched.setattr(Path, "exists", lambda path: not str(path).startswith("/proc") and there(path))
    monkeypatch.setattr(system, "_container", list)
    assert 1 << 20 < system.peak_host_memory() < 1 << 50
    monkeypatch.setattr(system, "resource", None)
    monkeypatch.delattr(os, "sysconf_names", raising=False)
    assert (system.peak_host_memory(), system.free_host_memory()) == (0, system.UNKNOWN)


@pytest.mark.parametrize(("most", "left"), [("1000", [450]), ("max", [])])
def test_of_a_containers_limit_what_files_hold_can_still_be_had(
    most: str, left: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1,000 bytes 800 are held, 250 of them by files that nobody is reading."""
    for name, content in (("max", most), ("current", "800"), ("stat", "anon 500\ninactive_file 250\nactive_file 50")):
        (tmp_path / f"memory.{name}").write_text(f"{content}\n")
    monkeypatch.setattr(system, "_GROUP", tmp_path)
    assert system._container() == left
    (tmp_path / "memory.max").unlink()
    assert system._container() == []


@pytest.mark.parametrize("way", ["kernel", "no kernel", "refused"])
def test_bytes_are_copied_from_a_place_to_a_place(way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "not such a file")

    if way == "no kernel":
        monkeypatch.delattr(os, "sendfile", raising=False)
    if way == "refused":
        monkeypatch.setattr(os, "sendfile", refuse, raising=False)
    monkeypatch.setattr(system, "BUFFER", 7)
    content = bytes(range(256))
    (tmp_path / "from").write_bytes(content)
    with (tmp_path / "from").open("rb", buffering=0) as source, (tmp_path / "to").open("wb") as target:
        target.write(b"head")
        target.flush()
        source.seek(56)
        left = 100
        while left:
            left -= system.copy_some(source, target, left)
        source.seek(256)
        assert system.copy_some(source, target, 9) == 0
    assert (tmp_path / "to").read_bytes() == b"head" + content[56:156]


def test_a_full_disk_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse: Callable[..., int] = lambda *_: (_ for _ in ()).throw(OSError(28, "full"))  # noqa: E731
    monkeypatch.setattr(os, "sendfile", refuse, raising=False)
    (tmp_path / "from").write_bytes(b"x")
    with (tmp_path / "from").open("rb", buffering=0) as source, (tmp_path / "to").open("wb") as target:
        with pytest.raises(OSError, match="full"):
            system.copy_some(source, target, 1)
        assert source.tell() == 0


@pytest.mark.parametrize(
    ("bound", "act", "ended"),
    [
        ("system.bound_time(1)", "while True: pass", -signal.SIGXCPU),
        ("system.bound_memory(1 << 26)", "held = bytearray(1 << 28)", 1),
        ("system.bound_memory(1 << 29)", "held = bytearray(1 << 28)", 0),
    ],
)
@pytest.mark.skipif(system.resource is None, reason="the system bounds no process")
def test_a_process_is_bound_in_time_and_in_memory(bound: str, act: str, ended: int) -> None:
    code = f"from inheritune.runtime import system\n{bound}\n{act}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert found.returncode == ended and ("MemoryError" in found.stderr) == (ended == 1), found.stderr
