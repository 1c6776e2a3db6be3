"""The commands that `kills.py` kills, each in a folder of its own, and which files of the folder must be the same at the end."""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from crash import restore
from launch import as_a_module, forked
from shell import command
from tiny import FAMILIES, LENGTH, VOCABULARY, recipe_tree, trained_model, words
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from inheritune.data.vocabulary import train_tokenizer

CLOCKS = re.compile(r"seconds|tokens_per_second|mfu|memory|time$")
WITH_CLOCKS = {
    "report.html",
    "README.md",
    "machine.json",
    "compare.md",
    "compare.csv",
    "time-to-loss.png",
}  # hold times or speeds
OTHERS = (
    "dest.part",
    ".dest.old",
    "out.tmp",
    ".notes",
)  # files of others beside the command's own, each with its own name as content


@dataclass(frozen=True)
class Killed:
    """A command line; `{root}` stands for the folder that holds all that it makes, `{given}` for that of its input.

    `before` is the command line that makes the model at `dest`, which the command then replaces.
    """

    name: str
    line: str
    before: str = ""
    processes: int = 1


COMMANDS = (
    Killed("run", "run {given}/run.yaml --out {root}/out --quiet"),
    Killed("train", "train {given}/train.yaml --out {root}/out --quiet"),
    Killed("prepare", "prepare {given}/long.jsonl {root}/dest --tokenizer {given}/reference --valid-share 0.3 --quiet"),
    Killed("compare", "compare {given}/compare.yaml --out {root}/out --quiet"),
    Killed(
        "inherit --force",
        "inherit {given}/reference {root}/dest --blocks 0-3 --force --quiet",
        before="inherit {given}/reference {root}/dest --blocks 1,2 --quiet",
    ),
    Killed(
        "grow --force",
        "grow {given}/small {root}/dest --from {given}/reference --blocks 0-4 --force --quiet",
        before="inherit {given}/reference {root}/dest --blocks 1,2 --quiet",
    ),
    Killed("run by torchrun, a worker", "run {given}/run.yaml --out {root}/out --quiet", processes=2),
)


class Ground:
    """Where one command works: its input, and a root folder that is emptied before each try."""

    def __init__(self, killed: Killed, given: Path, root: Path):
        self.killed, self.given, self.root, self.logs = killed, given, root, root.with_name("logs")
        self.line = killed.line.format(given=given, root=root).split()
        os.environ["INHERITUNE_CACHE"] = str(root / "cache")
        self.begin()
        self.old = found(root / "dest")
        began = time.monotonic()
        ended = self.to_the_end()
        assert ended == 0, (killed.name, ended)
        self.seconds, self.whole = time.monotonic() - began, found(root)

    def begin(self) -> None:
        """Set up the root as it is before the command: the model to be replaced, and files of others."""
        restore({name: name.encode() for name in OTHERS}, self.root)
        if self.killed.before:
            ended = command(*self.killed.before.format(given=self.given, root=self.root).split())
            assert ended.code == 0, ended

    def to_the_end(self) -> int:
        """Run the command on the root as it stands, and return its wait status."""
        return os.waitpid(self.started(), 0)[1]

    def started(self) -> int:
        """Start the command in a fork with the libraries already loaded, so that every moment is its own; return the process id."""
        return forked(self._work if self.killed.processes == 1 else self._launch)

    def _work(self) -> None:
        ended = command(*self.line)
        assert ended.code == 0, ended

    def _launch(self) -> None:
        """Launch the workers with torchrun's own agent; what each worker prints goes to files."""
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir()
        wanted = LaunchConfig(
            1, 1, self.killed.processes, run_id="kills", rdzv_backend="c10d", rdzv_endpoint="localhost:0", max_restarts=0,
            start_method="fork",
            logs_specs=DefaultLogsSpecs(log_dir=str(self.logs), redirects=Std.ALL),
        )  # fmt: skip
        elastic_launch(wanted, as_a_module)(["inheritune", *self.line])

    def wrong_after(self, seconds: float, drawn: random.Random) -> list[str] | None:
        """What is wrong after a SIGKILL at `seconds` and the same command again; None if it had ended before that."""
        self.begin()
        started = self.started()
        if not self._is_at_work(started, seconds):
            return None
        if self.killed.processes > 1:
            wrong = _worker_killed(started, drawn, self.logs)
        else:
            os.kill(started, signal.SIGKILL)
            wrong = [] if os.WIFSIGNALED(os.waitpid(started, 0)[1]) else None
        return None if wrong is None else wrong + self.wrong_now() + self.wrong_again()

    def _is_at_work(self, started: int, seconds: float) -> bool:
        """Whether the process still works after `seconds`; if not, the time that it took becomes the command's length."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds:
            if os.waitpid(started, os.WNOHANG)[0]:
                self.seconds = passed
                return False
            time.sleep(0.01)
        return True

    def wrong_now(self) -> list[str]:
        """What is wrong with the root as a death leaves it: a file of others is gone, or neither the old nor the new model is whole."""
        wrong = [f"{name} is gone" for name in OTHERS if not (self.root / name).is_file()]
        if self.killed.before and found(self.root / "dest") not in (self.old, found_below(self.whole, "dest")):
            wrong.append("neither the old model nor the new one stands whole")
        return wrong

    def wrong_again(self) -> list[str]:
        """What is wrong with the root after the same command has run again."""
        if ended := self.to_the_end():
            return [f"given again, it ends with {ended}"]
        after = found(self.root)
        return [name for name in sorted({*self.whole, *after}) if after.get(name) != self.whole.get(name)]


def _worker_killed(launch: int, drawn: random.Random, logs: Path) -> list[str] | None:
    """Kill one worker of a launch, drawn at random; return what is wrong with the other's end, or None if they had not begun or were done."""
    workers = _workers(launch)
    if len(workers) < 2:  # not begun, or done
        os.kill(launch, signal.SIGKILL)
        os.waitpid(launch, 0)
        for worker in workers.values():
            os.kill(worker, signal.SIGKILL)
        return None
    rank = drawn.choice(sorted(workers))
    os.kill(workers[rank], signal.SIGKILL)
    if os.waitpid(launch, 0)[1] == 0:
        return None
    said = "".join(path.read_text() for path in logs.rglob("stderr.log") if path.parent.name != rank).strip()
    print(f"  worker {rank} is killed; the other says {said[:400]!r}", file=sys.stderr)
    return ["the other worker ends in a traceback"] if "Traceback" in said else []


def _workers(launch: int) -> dict[str, int]:
    """The process id of each rank, identified by the file that its stderr goes to."""
    found_ = {}
    for child in " ".join(path.read_text() for path in Path(f"/proc/{launch}/task").glob("*/children")).split():
        with suppress(OSError):
            speaks_to = Path(os.readlink(f"/proc/{child}/fd/2"))
            if speaks_to.name == "stderr.log":
                found_[speaks_to.parent.name] = int(child)
    return found_


def found(folder: Path) -> dict[str, Any]:
    """Every file's content below a folder, by path: bytes, or parsed JSON without its times. The cache and `WITH_CLOCKS` are left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and "cache" not in path.relative_to(folder).parts)
    return {str(path.relative_to(folder)): _content(path) for path in files if path.name not in WITH_CLOCKS}


def found_below(whole: dict[str, Any], name: str) -> dict[str, Any]:
    """The part of `whole` that lies below a folder, with paths relative to it."""
    return {path.removeprefix(f"{name}/"): content for path, content in whole.items() if path.startswith(f"{name}/")}


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _without_clocks(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [_without_clocks(json.loads(line)) for line in path.read_text().splitlines()]
    return path.read_bytes()


def _without_clocks(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_clocks(value) for key, value in tree.items() if not CLOCKS.search(key)}
    return [_without_clocks(value) for value in tree] if isinstance(tree, list) else tree


def make_input(folder: Path) -> Path:
    """Make the input of all commands: texts, a tiny trained GPT-2 of five blocks, a cut of it, and recipes."""
    source = random.Random(7)
    texts = [words(source, source.randint(30, 60)) for _ in range(150)]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    trained_model("gpt2", texts, tokenizer).save_pretrained(folder / "reference")
    tokenizer.save_pretrained(folder / "reference")
    (folder / "words.txt").write_text("\n\n".join(texts * 4))
    (folder / "long.jsonl").write_text(
        "".join(json.dumps({"text": f"{n} {text}"}) + "\n" for n in range(80) for text in texts)
    )
    run = recipe_tree(folder / "reference", folder / "words.txt")
    train = {
        "name": "fresh",
        "model": {"model_type": "gpt2", "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, **FAMILIES["gpt2"]},
        "data": {"train": str(folder / "words.txt"), "sequence_length": LENGTH, "valid_share": 0.2},
        "training": {"tokens": 10240, "batch_tokens": 256, "peak_lr": 1e-2, "evaluate_every": 4, "checkpoint_every": 4},
    }  # fmt: skip
    compare = {key: run[key] for key in ("name", "reference", "data", "training", "diagnosis")}
    compare |= {"methods": ["published", "stacking", "random"], "depth": 3, "seeds": 2, "learning_rates": [1e-4, 2e-3]}
    for name, tree in {"run": run, "train": train, "compare": compare}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    ended = command("inherit", str(folder / "reference"), str(folder / "small"), "--blocks", "0-1", "--quiet")
    assert ended.code == 0, ended
    return folder
