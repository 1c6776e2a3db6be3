"""A try: something broken is handed to a command, which has to refuse it in one sentence and leave all as it was.

`Ground` is the place of one try: copies of a tiny model, a corpus and a recipe, all free to be damaged.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from shell import Ended, command
from tiny import VOCABULARY, recipe_tree, untrained_model, words

from inheritune.data.vocabulary import train_tokenizer

_MOST_WORDS = 1500  # characters of an answer, paths included


_RESULTS = frozenset({"model", "dest", "result.json", "report.html"})


class NotHere(Exception):
    """This machine cannot make the fault; the message says why."""


@dataclass(frozen=True)
class Try:
    """`command` damages the ground and gives the command line; the answer must hold each of `says`.

    `leaves` are results that may stand afterwards, because they were whole before the fault.
    """

    name: str
    command: Callable[["Ground"], list[str]]
    says: tuple[str, ...]
    code: int = 2
    leaves: tuple[str, ...] = ()


@dataclass
class Ground:
    """A folder of one's own with `model/`, `words.jsonl` and a recipe's `tree`.

    `undo` is called at the end; with `mend`, the fault is taken away and the same command must then succeed.
    """

    path: Path
    undo: ExitStack = field(default_factory=ExitStack)
    mend: list[Callable[[], object]] = field(default_factory=list)

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def text(self) -> Path:
        return self.path / "words.jsonl"

    @property
    def out(self) -> Path:
        return self.path / ("disk/out" if (self.path / "disk").exists() else "out")

    @property
    def tree(self) -> dict[str, Any]:
        """A whole tiny run, of one round."""
        tree = recipe_tree(self.model, self.text)
        return {**tree, "growth": {"start": 2, "max_depth": 2}}

    def file(self, name: str, content: str | bytes) -> Path:
        """A file of this content."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)
        return path

    def recipe(self, text: str | bytes) -> list[str]:
        """The command that runs a recipe of this text."""
        return ["run", str(self.file("recipe.yaml", text)), "--out", str(self.out), "--quiet"]

    def run(self, **changes: Any) -> list[str]:
        """The command that runs the tiny recipe with these keys changed, as `training__tokens`."""
        tree = self.tree
        for key, value in changes.items():
            section, _, name = key.rpartition("__")
            (tree.setdefault(section, {}) if section else tree)[name] = value
        return self.recipe(yaml.safe_dump(tree))

    def inherit(self, *options: str, blocks: str = "0-2") -> list[str]:
        """The command that cuts the model to `dest`."""
        return ["inherit", str(self.model), str(self.path / "dest"), "--blocks", blocks, "--quiet", *options]

    def change_json(self, name: str, **fields: Any) -> None:
        """Other fields in a JSON file of the model; None takes one away."""
        content = {**json.loads((self.model / name).read_text()), **fields}
        (self.model / name).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def make_base(folder: Path) -> Path:
    """What each ground is a copy of."""
    import random

    source = random.Random(7)
    texts = [words(source, source.randint(30, 60)) for _ in range(60)]
    tokenizer = train_tokenizer(texts, VOCABULARY)
    (folder / "words.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    untrained_model("gpt2").save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    return folder


def carry_out(tried: Try, base: Path, place: Path) -> tuple[Ended, list[str]]:
    """How the command ended, and what is wrong with that; NotHere where the fault cannot be made."""
    shutil.copytree(base, place)
    ground = Ground(place)
    with ground.undo:
        arguments = tried.command(ground)
        before = _held(place)
        ended = command(*arguments)
        wrong = [*_wrong_answer(tried, ended), *_wrong_folder(tried, before, _held(place))]
        for mend in ground.mend:
            mend()
        if ground.mend and (again := command(*arguments)).code:
            wrong.append(f"once mended, the same command ends with {again.code}: {again.err}")
    return ended, wrong


def _wrong_answer(tried: Try, ended: Ended) -> list[str]:
    said = ended.err.strip()
    wrong = [f"it does not say {part!r}" for part in tried.says if part not in said]
    if ended.code != tried.code:
        wrong.append(f"the exit code is {ended.code}")
    if len(said.splitlines()) != 1 or not said.startswith("inheritune: "):
        wrong.append("the answer is not one line")
    if len(said) > _MOST_WORDS:
        wrong.append(f"the answer has {len(said)} characters")
    if not said.isprintable() or "Traceback" in ended.out:
        wrong.append("control characters or a traceback are printed")
    return wrong


def _wrong_folder(tried: Try, before: dict[str, str], after: dict[str, str]) -> list[str]:
    changed = [f"{name} was changed" for name, content in before.items() if after.get(name) != content]
    new = [Path(name) for name in after if name not in before]
    half = [f"{name} was left behind" for name in map(str, new) if ".inheritune" in name]
    done = [f"{path} was written" for path in new if (_RESULTS - {*tried.leaves}) & {*path.parts}]
    return changed + half + done


def _held(folder: Path) -> dict[str, str]:
    """Every file of a folder, with a hash of its content; big ones by their size."""
    return {
        str(path.relative_to(folder)): _content(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def _content(path: Path) -> str:
    size = path.stat().st_size
    return str(size) if size > 1 << 24 else hashlib.blake2b(path.read_bytes()).hexdigest()
