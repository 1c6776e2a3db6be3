"""Files made to do harm: none is executed, followed out of its folder, unfolded, or let into the terminal."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

from tries import Ground, Try
from tries_models import INDEX, WEIGHTS, only, sharded

Use = Callable[[Ground], list[str]]
ESCAPE, SHOWN = "\x1b[31m<b>red</b>\x07", "\\x1b[31m<b>red</b>\\x07"


class Bomb:
    """Unpickled, it leaves a trace that counts as a result."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def pickled(name: str, use: Use = Ground.run) -> Use:
    """A pickle that leaves a trace, under this name."""

    def command(ground: Ground) -> list[str]:
        if name in ("model/pytorch_model.bin", f"model/{INDEX}"):
            (ground.model / WEIGHTS).unlink()
        ground.file(name, pickle.dumps(Bomb(ground.path / "dest")))
        return use(ground)

    return command


def header(raw: bytes, body: bytes = b"") -> Use:
    """The weights' file is this header, with its length before it, and this body."""
    return bytes_of(len(raw).to_bytes(8, "little") + raw + body)


def bytes_of(content: bytes) -> Use:
    """The weights' file is exactly this."""

    def command(ground: Ground) -> list[str]:
        ground.file(f"model/{WEIGHTS}", content)
        return ground.run()

    return command


def tensors(**entries: tuple[list[int], list[int]]) -> bytes:
    """A header of float32 tensors of these shapes and ranges."""
    held = {name: {"dtype": "F32", "shape": shape, "data_offsets": at} for name, (shape, at) in entries.items()}
    return json.dumps(held).encode()


def climbing(name: str, use: Use = Ground.run) -> Use:
    """An index that looks for a shard elsewhere."""

    def change(ground: Ground, index: dict) -> None:
        for path in ("secret.safetensors", "model/elsewhere/secret.safetensors"):
            ground.file(path, (ground.model / "part-1.safetensors").read_bytes())
        found = str(ground.path / "secret.safetensors") if name == "/" else name
        index["weight_map"] = {
            key: found if file == "part-1.safetensors" else file for key, file in index["weight_map"].items()
        }

    return sharded(change, use)


def linked(name: str, use: Use = Ground.run) -> Use:
    """A file of the model is a link to one outside."""

    def command(ground: Ground) -> list[str]:
        moved = (ground.model / name).rename(ground.path / f"secret-{name}")
        (ground.model / name).symlink_to(moved)
        return use(ground)

    return command


def linked_text(ground: Ground) -> list[str]:
    outside = ground.file("elsewhere/private.jsonl", ground.text.read_bytes())
    (ground.path / "mine").mkdir()
    (ground.path / "mine" / "corpus.jsonl").symlink_to(outside)
    return ground.run(data__train=str(ground.path / "mine" / "corpus.jsonl"))


def looped(ground: Ground) -> list[str]:
    (ground.model / WEIGHTS).unlink()
    (ground.model / WEIGHTS).symlink_to(WEIGHTS)
    return ground.run()


def huge(use: Use) -> Use:
    """A config that is mostly hole."""

    def command(ground: Ground) -> list[str]:
        os.truncate(ground.model / "config.json", 1 << 40)
        return use(ground)

    return command


def named(ground: Ground) -> list[str]:
    ground.model.rename(ground.path / ESCAPE.replace("/", "|"))
    return ground.run(reference=str(ground.path / ESCAPE.replace("/", "|") / "none"))


def typed(ground: Ground) -> list[str]:
    ground.change_json("config.json", model_type=ESCAPE)
    return ground.run()


def tensor_name(ground: Ground) -> list[str]:
    return header(tensors(**{ESCAPE: ([2], [4, 12])}), bytes(12))(ground)


def device(ground: Ground) -> list[str]:
    return ground.run(data__train="/dev/zero")


def pipe(ground: Ground) -> list[str]:
    os.mkfifo(ground.path / "pipe.txt")
    return ground.run(data__train=str(ground.path / "pipe.txt"))


HOSTILE = [
    Try("a pickle as weights", pickled("model/model.safetensors"), (WEIGHTS, "no safetensors file")),
    Try("a pickle in place of weights", pickled("model/pytorch_model.bin"), ("pytorch_model.bin", "pickle", "safetensors")),
    Try("a pickle as a config", pickled("model/config.json"), ("config.json", "JSON")),
    Try("a pickle as a tokenizer", pickled("model/tokenizer.json"), ("tokenizer.json",)),
    Try("a pickle as an index", pickled(f"model/{INDEX}"), (INDEX, "JSON")),
    Try("a pickle as a recipe", pickled("recipe.yaml", lambda g: ["run", str(g.path / "recipe.yaml")]), ("recipe.yaml",)),
    Try(
        "a pickle as a profile",
        pickled("p.json", lambda g: ["diagnose", str(g.model), "--against", str(g.path / "p.json")]),
        ("p.json",),
    ),
    Try(
        "a pickle as a record",
        pickled(
            "model/inheritune.json",
            lambda g: ["grow", str(g.model), str(g.path / "new"), "--from", str(g.model), "--blocks", "0-4", "--quiet"],
        ),
        ("inheritune.json", "JSON"),
    ),
    Try("an index that climbs out", climbing("../secret.safetensors"), ("'../secret.safetensors'", "out of the folder")),
    Try("an index that goes deeper", climbing("elsewhere/secret.safetensors"), ("elsewhere/secret", "out of the folder")),
    Try("an index with an absolute name", climbing("/"), ("secret.safetensors", "out of the folder")),
    Try("weights that are a link out", linked(WEIGHTS), (WEIGHTS, "link", "copy the file")),
    Try("a config that is a link out", linked("config.json"), ("config.json", "link", "copy the file")),
    Try("a tokenizer that is a link out", linked("tokenizer.json"), ("tokenizer.json", "link", "copy the file")),
    Try("a tokenizer to be copied that is a link out", linked("tokenizer.json", Ground.inherit), ("tokenizer.json", "link")),
    Try("weights that link to themselves", looped, ("safetensors",)),
    Try("a text that is a link out", linked_text, ("corpus.jsonl", "link", "private.jsonl")),
    Try("a device as text", device, ("/dev/zero",)),
    Try("a pipe as text", pipe, ("pipe.txt",)),
    Try("a header of absurd size", bytes_of((1 << 62).to_bytes(8, "little") + b"{}" * 20), (WEIGHTS, "no safetensors file")),
    Try("a header longer than its file", bytes_of((1 << 20).to_bytes(8, "little") + b"{}"), (WEIGHTS, "truncated")),
    Try("ranges that overlap", header(tensors(a=([2], [0, 8]), b=([2], [4, 12])), bytes(12)), (WEIGHTS, "overlap", "'b'")),
    Try("ranges with a gap", header(tensors(a=([1], [0, 4]), b=([1], [8, 12])), bytes(12)), (WEIGHTS, "gaps", "'b'")),
    Try("ranges beyond the file", header(tensors(a=([9], [0, 36])), bytes(12)), (WEIGHTS, "header promises")),
    Try("ranges that run backwards", header(tensors(a=([1], [8, 4])), bytes(12)), (WEIGHTS, "'a'")),
    Try("a shape that is not its range's", header(tensors(a=([1 << 40], [0, 12])), bytes(12)), (WEIGHTS, "'a'")),
    Try("a range of infinity", header(tensors(a=([1], [0, 4])).replace(b"4]", b"Infinity]"), bytes(4)), (WEIGHTS, "'a'")),
    Try("a header of absurd depth", header(b'{"a":' + b"[" * 100_000), (WEIGHTS, "header")),
    Try("a config of absurd depth", only("config.json", '{"a":' + "[" * 100_000), ("config.json", "JSON")),
    Try("a tokenizer of absurd depth", only("tokenizer.json", '{"a":' + "[" * 100_000), ("tokenizer.json",)),
    Try("a config of a terabyte", huge(Ground.run), ("config.json", "bytes")),
    Try("a cut by a config of a terabyte", huge(Ground.inherit), ("config.json", "bytes")),
    Try("a cut by a config nested without end", only("config.json", "[" * 100_000, Ground.inherit), ("config.json", "JSON")),
    Try("a cut of a pickle", pickled("model/model.safetensors", Ground.inherit), (WEIGHTS, "no safetensors file")),
    Try("a cut of a pickle in place of weights", pickled("model/pytorch_model.bin", Ground.inherit), ("pytorch_model.bin", "pickle")),
    Try("a cut by an index that climbs out", climbing("../secret.safetensors", Ground.inherit), ("'../secret.safetensors'", "out of the folder")),
    Try("more blocks than memory holds", lambda g: only("config.json", '{"model_type": "gpt2", "n_layer": 1000000000}')(g), ("n_layer", "1000000000")),
    Try("control characters in a name", named, (SHOWN.replace("/", "|"),)),
    Try("control characters in a model type", typed, (SHOWN,)),
    Try("control characters in a tensor's name", tensor_name, (SHOWN,)),
    Try("control characters in a key", lambda g: g.recipe(json.dumps({**g.tree, ESCAPE: 1})), (SHOWN,)),
    Try("control characters in a value", lambda g: g.run(training__optimizer=ESCAPE), (SHOWN,)),
    Try("YAML that holds itself", lambda g: g.recipe("name: &a [*a]\n"), ("recipe.yaml", "alias")),
    Try("a GGUF file of rubbish", lambda g: ["prove", str(g.file("model.gguf", b"GGUF" + b"\xff" * 200)), "--quiet"], ("model.gguf",)),
]  # fmt: skip
