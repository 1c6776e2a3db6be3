"""What is no file wherever a path is taken, and an environment that contradicts itself."""

import os
from collections.abc import Callable
from unittest.mock import patch

from tries import Ground, Try
from tries_numbers import given

Use = Callable[[Ground], list[str]]
_TORCHRUN = "torchrun"
_AT = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "2999"}


def under(**variables: str) -> Use:
    """The tiny run under these variables of the environment."""

    def command(ground: Ground) -> list[str]:
        ground.undo.enter_context(patch.dict(os.environ, variables))
        return ground.run()

    return command


def pipe(name: str, use: Use) -> Use:
    """A pipe at this place, which nobody writes into."""

    def command(ground: Ground) -> list[str]:
        path = ground.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        return use(ground)

    return command


def at(name: str, *arguments: str) -> Use:
    """A command whose HERE is a pipe of this name."""
    return pipe(name, lambda ground: [str(ground.path / name) if a == "HERE" else a for a in given(*arguments)(ground)])


_PREPARE = ("prepare", "TEXT", "DEST", "--tokenizer")
_DIAGNOSE = ("diagnose", "MODEL", "--text", "TEXT", "--quiet", "--sequences", "2", "--length", "16")
_TASKS = ("evaluate", "MODEL", "--data", "TEXT", "--tasks", "a", "--task-files")
_CUT = ("--blocks", "0-2")
_NONE = ("pipe, socket or device",)
_DEVICE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "a device to be cut": (("inherit", "/dev/zero", "DEST", *_CUT), _NONE),
    "a device to be proved": (("prove", "/dev/zero", "--quiet"), ("/dev/zero", "no folder")),
    "a device to prove against": (("prove", "MODEL", "--against", "/dev/zero", "--blocks", "0-4", "--quiet"), ("/dev/zero", "no folder")),
    "a device to be diagnosed": (("diagnose", "/dev/zero"), _NONE),
    "a device to be evaluated": (("evaluate", "/dev/zero"), _NONE),
    "a device as reference of an evaluation": (("evaluate", "MODEL", "--data", "TEXT", "--reference", "/dev/zero"), _NONE),
    "a device to grow from": (("grow", "MODEL", "DEST", "--from", "/dev/zero", "--blocks", "0-4", "--held", "0-4"), ("/dev/zero", "no folder")),
    "a device as tokenizer": ((*_PREPARE, "/dev/zero"), _NONE),
    "a device as tokenizer of a diagnosis": ((*_DIAGNOSE, "--tokenizer", "/dev/zero"), _NONE),
    "a device as profile": ((*_DIAGNOSE, "--against", "/dev/zero"), _NONE),
    "a device as text of a diagnosis": (("diagnose", "MODEL", "--text", "/dev/zero"), _NONE),
    "a device as text of an evaluation": (("evaluate", "MODEL", "--data", "/dev/zero"), _NONE),
    "a device as text to be prepared": (("prepare", "/dev/zero", "DEST", "--tokenizer", "MODEL"), _NONE),
    "a device as text of a repair": (("inherit", "MODEL", "DEST", *_CUT, "--heal", "/dev/zero"), _NONE),
    "a device as recipe": (("run", "/dev/zero"), ("'/dev/zero'", "recipe")),
    "a device as recipe of a training": (("train", "/dev/zero"), ("'/dev/zero'", "recipe")),
    "a device as recipe of a comparison": (("compare", "/dev/zero"), ("'/dev/zero'", "recipe")),
    "a device in place of a cut": (("inherit", "MODEL", "/dev/null", *_CUT), ("/dev/null",)),
    "a device in place of a cut, by force": (("inherit", "MODEL", "/dev/null", *_CUT, "--force"), ("/dev/null", "file")),
    "a device in place of prepared text": (("prepare", "TEXT", "/dev/null", "--tokenizer", "MODEL"), ("/dev/null", "file")),
    "a device in place of a diagnosis": ((*_DIAGNOSE, "--out", "/dev/null"), ("/dev/null",)),
    "below a device: a diagnosis": ((*_DIAGNOSE, "--out", "/dev/null/x"), ("/dev/null/x", "Not a directory")),
    "below a device: prepared text": (("prepare", "TEXT", "/dev/null/x", "--tokenizer", "MODEL"), ("/dev/null/x", "Not a directory")),
    "the root in place of a cut": (("inherit", "MODEL", "/", *_CUT, "--force"), ("no folder of its own",)),
    "above itself in place of a cut": (("inherit", "MODEL", "..", *_CUT, "--force"), ("no folder of its own",)),
    "nothing as text of a diagnosis": (("diagnose", "MODEL", "--text", ""), ("empty", "glob")),
    "nothing as text of an evaluation": (("evaluate", "MODEL", "--data", ""), ("empty", "glob")),
    "nothing as text to be prepared": (("prepare", "", "DEST", "--tokenizer", "MODEL"), ("empty", "glob")),
    "a recipe of no name": (("run", ""), ("''", "recipe")),
    "a bundled model that is none": (("inherit", "bundled:x", "DEST", *_CUT), ("'bundled:x'", "bundled:laptop")),
    "a home of nobody": (("diagnose", "~nobody"), ("'~nobody'",)),
}  # fmt: skip
_HELD = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "README.md",
    "chat_template.jinja",
    "inheritune.json",
)
_LAUNCH: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    **{f"WORLD_SIZE is {text!r}": ({"WORLD_SIZE": text}, ("WORLD_SIZE", repr(text), _TORCHRUN)) for text in
       ("evil", "0", "-1", "", "1.0", "²", "2" * 12)},
    "WORLD_SIZE alone": ({"WORLD_SIZE": "2"}, ("WORLD_SIZE is 2", "RANK is not set")),
    "RANK alone": ({"RANK": "1"}, ("RANK is '1'", "WORLD_SIZE is not set")),
    "a RANK that is no number": ({"WORLD_SIZE": "2", "RANK": "evil"}, ("'evil'", _TORCHRUN)),
    "a RANK below 0": ({"WORLD_SIZE": "2", "RANK": "-1"}, ("'-1'", _TORCHRUN)),
    "a RANK beyond the launch": ({"WORLD_SIZE": "2", "RANK": "2"}, ("RANK is 2", "WORLD_SIZE 2")),
    "a RANK beyond a launch of one": ({"WORLD_SIZE": "1", "RANK": "1"}, ("RANK is 1", "WORLD_SIZE 1")),
    "a LOCAL_RANK that is no number": ({"LOCAL_RANK": "evil"}, ("LOCAL_RANK", "'evil'")),
    "a LOCAL_RANK above the RANK": ({**_AT, "LOCAL_RANK": "1"}, ("LOCAL_RANK is 1", "RANK 0")),
    "no MASTER_ADDR": ({**_AT, "MASTER_ADDR": ""}, ("MASTER_ADDR ''", "2999")),
    "a MASTER_PORT that is no number": ({**_AT, "MASTER_PORT": "evil"}, ("MASTER_PORT", "'evil'")),
    "a MASTER_PORT beyond ports": ({**_AT, "MASTER_PORT": "99999"}, ("MASTER_PORT 99999",)),
    "a cache that is a device": ({"INHERITUNE_CACHE": "/dev/null"}, ("/dev/null", "INHERITUNE_CACHE")),
    "a cache below a device": ({"INHERITUNE_CACHE": "/dev/null/x"}, ("/dev/null/x", "INHERITUNE_CACHE")),
}  # fmt: skip

PLACES = [
    *(Try(name, given(*arguments), says) for name, (arguments, says) in _DEVICE.items()),
    *(Try(f"a pipe in a model: {name}", pipe(f"model/{name}", Ground.run), (name, *_NONE)) for name in _HELD),
    Try("a pipe as weights", pipe("model/model.safetensors", Ground.run), ("model.safetensors",)),
    Try("a pipe as config", pipe("model/config.json", Ground.run), ("config.json",)),
    Try("a pipe as GGUF, to be proved", at("m.gguf", "prove", "HERE", "--quiet"), ("m.gguf", "no file")),
    Try("a pipe as GGUF, to be cut", at("m.gguf", "inherit", "HERE", "DEST", *_CUT), _NONE),
    Try("a pipe as recipe", at("r.yaml", "run", "HERE"), ("r.yaml", "recipe")),
    Try("a pipe as text of a repair", at("h.txt", "inherit", "MODEL", "DEST", *_CUT, "--heal", "HERE"), _NONE),
    Try("a pipe as profile", at("p.json", *_DIAGNOSE, "--against", "HERE"), _NONE),
    Try("a pipe in a folder of text", pipe("t/a.txt", lambda g: g.run(data__train=str(g.path / "t"))), _NONE),
    Try("a pipe that a glob finds", pipe("t/a.txt", lambda g: g.run(data__train=f"{g.path}/t/*.txt")), _NONE),
    Try("a pipe among task files", pipe("t/a.yaml", lambda g: given(*_TASKS, str(g.path / "t"))(g)), _NONE),
    Try("a device as folder of task files", given(*_TASKS, "/dev/zero"), ("/dev/zero", "no folder")),
    Try("a pipe as validation text", pipe("t.txt", lambda g: g.run(data__valid=str(g.path / "t.txt"))), _NONE),
    *(Try(name, under(**variables), says) for name, (variables, says) in _LAUNCH.items()),
]  # fmt: skip
