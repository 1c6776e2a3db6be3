"""Machines that refuse: disks that are full or may not be written, no memory, two runs at once."""

import errno
import importlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tries import Ground, NotHere, Try
from tries_models import WEIGHTS

SIZE = 160 << 20  # bytes of the small disk: a run asks for 64 MB that stay free
Use = Callable[[Ground], list[str]]
FULL = ("No space left", "make room")


def run(ground: Ground) -> list[str]:
    """A run of one step, whose report, the longest part of it, is not drawn."""
    ground.undo.enter_context(patch.object(importlib.import_module("inheritune.runs.run"), "write_report", Path))
    return step(ground)


def step(ground: Ground) -> list[str]:
    """A run of one step."""
    return ground.run(training__tokens=256, training__evaluate_every=9)


def drawn(ground: Ground) -> list[str]:
    """A run of one step, with its report, whose pictures are left blank."""
    ground.undo.enter_context(
        patch("inheritune.report.pictures.inline_svg", lambda _figure, name: f"<svg id='{name}'/>")
    )
    return step(ground)


def inherit(ground: Ground) -> list[str]:
    """A cut onto the small disk."""
    return ["inherit", str(ground.model), str(ground.path / "disk" / "dest"), "--blocks", "0-2", "--quiet"]


def diagnose(ground: Ground) -> list[str]:
    """A diagnosis onto the small disk."""
    return ["diagnose", str(ground.model), "--text", str(ground.text), "--length", "16", "--sequences", "2",
            "--curve-sequences", "0", "--quiet", "--out", str(ground.path / "disk" / "diagnosis")]  # fmt: skip


def prepare(ground: Ground) -> list[str]:
    """Text prepared onto the small disk."""
    return [
        "prepare",
        str(ground.text),
        str(ground.path / "disk" / "tokens"),
        "--tokenizer",
        str(ground.model),
        "--valid-share",
        "0.3",
    ]


def small_disk(ground: Ground) -> Path:
    """A disk of its own at `disk`, taken away at the end."""
    place = ground.path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(place)]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        raise NotHere("only root may mount a small disk")
    ground.undo.callback(subprocess.run, ["umount", "-l", str(place)], check=True)
    return place


def fill(place: Path) -> None:
    """Leave no byte free."""
    for step in (1 << 20, 1 << 12):
        try:
            with (place / "ballast").open("ab") as file:
                while True:
                    os.posix_fallocate(file.fileno(), file.tell(), step)
                    file.seek(0, os.SEEK_END)
        except OSError as error:
            assert error.errno == errno.ENOSPC, error


def at(ground: Ground, where: str, act: Callable[[], object]) -> None:
    """Have `act` done once, just before the function `module:name` is called."""
    module, _, name = where.partition(":")
    owner: Any = importlib.import_module(f"inheritune.{module}" if not module.startswith("transformers") else module)
    *path, name = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    original, done = getattr(owner, name), []

    def first(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append(True)
            act()
        return original(*arguments, **options)

    ground.undo.enter_context(patch.object(owner, name, first))


def full(where: str | None, use: Use = run) -> Use:
    """The disk is full from the start, or from just before a function on; mended, the command must go on."""

    def command(ground: Ground) -> list[str]:
        place = small_disk(ground)
        if where is None:
            fill(place)
        else:
            at(ground, where, lambda: fill(place))
        ground.mend.append((place / "ballast").unlink)
        return use(ground)

    return command


def full_cache(ground: Ground) -> list[str]:
    place = small_disk(ground)
    ground.undo.enter_context(patch.dict(os.environ, {"INHERITUNE_CACHE": str(place / "cache")}))
    fill(place)
    ground.mend.append((place / "ballast").unlink)
    return [part.replace(f"{place}/out", str(ground.path / "out")) for part in run(ground)]


def fixed(ground: Ground, place: Path) -> None:
    """Nobody may write in a folder or to a file, not even root."""
    place.mkdir(parents=True, exist_ok=True)
    if subprocess.run(["chattr", "+i", str(place)], capture_output=True).returncode:
        raise NotHere("this file system or user cannot make a folder immutable")
    loose = ["chattr", "-i", str(place)]
    ground.undo.callback(subprocess.run, loose, check=True)
    ground.mend.append(lambda: subprocess.run(loose, check=True))


def read_only(name: str, use: Use = run) -> Use:
    """A folder that may only be read."""

    def command(ground: Ground) -> list[str]:
        fixed(ground, ground.path / name)
        return use(ground)

    return command


def lost(where: str, name: str) -> Use:
    """The right to write in a folder of the run, lost in the middle of it."""

    def command(ground: Ground) -> list[str]:
        arguments = run(ground)
        at(ground, where, lambda: fixed(ground, ground.out / name))
        return arguments

    return command


def read_only_cache(ground: Ground) -> list[str]:
    fixed(ground, ground.path / "cache")
    ground.undo.enter_context(patch.dict(os.environ, {"INHERITUNE_CACHE": str(ground.path / "cache")}))
    return run(ground)


def in_place(name: str, use: Use = run, folder: bool = False) -> Use:
    """A file where a folder belongs, or a folder where a file does."""

    def command(ground: Ground) -> list[str]:
        arguments = use(ground)
        if folder:
            (ground.path / name / "mine").mkdir(parents=True)
        else:
            ground.file(name, "mine")
        return arguments

    return command


def started(name: str, folder: bool = False) -> Use:
    """As `in_place`, in a run's folder."""

    def command(ground: Ground) -> list[str]:
        from inheritune.runs.folder import close_folder, open_folder

        arguments = run(ground)
        close_folder(open_folder(ground.out, as_a_run_settles(arguments[1])))
        return in_place(f"out/{name}", lambda _: arguments, folder)(ground)

    return command


def as_a_run_settles(path: str) -> Any:
    """A recipe with what `auto` means here."""
    import torch

    from inheritune.config.loading import load_recipe
    from inheritune.config.recipes import RunRecipe
    from inheritune.training.kernels import settled

    recipe = load_recipe(RunRecipe, path, {})
    return recipe.model_copy(update={"training": settled(recipe.training, torch.device("cpu"))})


def someone_elses(ground: Ground) -> list[str]:
    ground.file("out/thesis.txt", "mine")
    return run(ground)


def twice(ground: Ground) -> list[str]:
    from inheritune.runs.folder import close_folder, open_folder

    arguments = run(ground)
    open_folder(ground.out, as_a_run_settles(arguments[1]))
    ground.undo.callback(close_folder, ground.out)
    ground.mend.append(lambda: close_folder(ground.out))
    return arguments


def giant(ground: Ground) -> None:
    """Weights of half a terabyte, with nothing in them and hardly a byte on the disk."""
    raw = (ground.model / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    rows = 5_000_000_000
    header.pop("__metadata__", None)
    at_ = 0
    for name, entry in header.items():
        size = 4 * rows * 24 if name.endswith("wte.weight") else entry["data_offsets"][1] - entry["data_offsets"][0]
        entry["shape"] = [rows, 24] if name.endswith("wte.weight") else entry["shape"]
        entry["data_offsets"], at_ = [at_, at_ + size], at_ + size
    new = json.dumps(header).encode()
    (ground.model / WEIGHTS).write_bytes(len(new).to_bytes(8, "little") + new)
    os.truncate(ground.model / WEIGHTS, 8 + len(new) + at_)
    ground.change_json("config.json", vocab_size=rows)


def too_large(use: Use) -> Use:
    """A model far beyond this machine's memory."""

    def command(ground: Ground) -> list[str]:
        giant(ground)
        return use(ground)

    return command


def too_long(ground: Ground) -> list[str]:
    """A step whose activations are far beyond this machine's memory."""
    ground.undo.enter_context(patch("inheritune.runtime.gauge.free_memory", lambda on: 1000))
    return ground.run(training__tokens=256)


MACHINE = [
    Try("full disk: the run's folder", full(None), FULL),
    Try("full disk: the cache of tokens", full_cache, ("No space left", "INHERITUNE_CACHE")),
    Try("full disk: the reference's losses", full("runs.bench:document_losses"), FULL),
    Try("full disk: the profile", full("runs.lab:diagnose"), FULL),
    Try("full disk: the first checkpoint", full("training.checkpoint:save"), ("No space left",)),
    Try("full disk: the metrics", full("training.metrics:Metrics.add"), ("No space left",)),
    Try("full disk: the model", full("transformers.modeling_utils:PreTrainedModel.save_pretrained"), FULL),
    Try("full disk: result.json", full("records.result:Result.save"), FULL, leaves=("model",)),
    Try("full disk: the report", full("runs.run:write_report", drawn), FULL, leaves=("model", "result.json")),
    Try("full disk: a cut, beforehand", full(None, inherit), ("free", "another disk")),
    Try("full disk: a cut, midway", full("surgery.byte_ranges:write_shard", inherit), ("No space left",)),
    Try("full disk: a diagnosis", full("diagnosis.by_name:mean_maps", diagnose), ("diagnosis", *FULL)),
    Try("full disk: prepared text", full(None, prepare), ("No space left",)),
    Try("read-only: the run's folder", read_only("out"), ("out", "not permitted")),
    Try("read-only: the cache", read_only_cache, ("cache", "not permitted", "INHERITUNE_CACHE")),
    Try("read-only: beside a cut", read_only("disk", inherit), ("disk", "not permitted")),
    Try("read-only: a diagnosis", read_only("disk/diagnosis", diagnose), ("diagnosis", "not permitted")),
    Try("permission lost before the first round", lost("runs.targets:prove", "rounds"), ("rounds", "not permitted")),
    Try("permission lost at the model", lost("runs.run:assemble_result", ""), ("out", "not permitted")),
    Try("a file in place of the run's folder", in_place("out"), ("out", "file")),
    Try("a file in place of its parent", lambda g: [*in_place("f")(g)[:3], str(g.path / "f" / "out")], ("f/out", "file")),
    Try("a file in place of the rounds", started("rounds"), ("rounds", "file")),
    Try("a folder in place of the metrics", started("metrics.jsonl", folder=True), ("metrics.jsonl", "directory")),
    Try("a file in place of a cut", in_place("disk/dest", lambda g: [*inherit(g), "--force"]), ("dest", "file")),
    Try("a file in place of a diagnosis", in_place("disk/diagnosis", diagnose), ("diagnosis",)),
    Try("a folder that is someone else's", someone_elses, ("out", "no run folder", "--out")),
    Try("two runs in one folder", twice, ("another run", "out", "--out")),
    Try("a model beyond the memory", too_large(Ground.run), ("GB", "memory", "smaller model")),
    Try("a model beyond the memory, to be proved", too_large(lambda g: ["prove", str(g.model), "--quiet"]), ("GB", "memory")),
    Try("a step beyond the memory", too_long, ("a step needs", "micro_batch_size"), code=1),
]  # fmt: skip
