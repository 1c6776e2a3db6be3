"""`inheritune plan`: what a recipe, or a plain run of a model, will take and can reach, without reading a weight."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from transformers import PreTrainedModel

from inheritune.choosing.by_hand import refuse_depths
from inheritune.config.loading import YAML_SUFFIXES, load_for_positions, load_recipe, load_tree, recipe_names
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Size
from inheritune.data.corpora import require, tokens_in_files
from inheritune.decoder.anatomy import anatomy, positions_of
from inheritune.disk.files import read_whole
from inheritune.disk.seals import bears_seal
from inheritune.errors import InputError, RecipeError
from inheritune.models.export import weight_bytes
from inheritune.models.find import locate
from inheritune.models.gguf import gguf_shape, note_unpacking
from inheritune.models.hollow import hollow, open_checkpoint
from inheritune.models.load import DTYPES, kept_dtype
from inheritune.models.reference import Reference
from inheritune.progress import Progress
from inheritune.records.estimate import RunEstimate
from inheritune.records.made_of import MadeOf
from inheritune.records.stages import Machine
from inheritune.runs.estimate import Outlook
from inheritune.runs.folder import once
from inheritune.runs.hardware import HERE, machinery
from inheritune.runtime import processes
from inheritune.runtime.device import device
from inheritune.training.kernels import settled
from inheritune.training.pace import assumed, tried

_GPU_SECONDS = 2.0  # of trial training and reading before a run's plan
_PLAIN: dict[str, Any] = {
    "name": "plan", "training": {"tokens": 10_000_000, "batch_tokens": 65_536}, "objective": {"cross_entropy": 0.25, "logits": 0.75},
}  # fmt: skip


@dataclass(frozen=True)
class PlanRequest:
    """What to plan for: a device by name, how many, its price an hour, the target's wanted size, and whether to probe this machine."""

    gpu: str = HERE
    gpus: int = 1
    price: float | None = None
    fit: str | None = None
    probe: bool = False


def plan(
    source: str,
    text: str | None = None,
    asked: PlanRequest | None = None,
    progress: Progress | None = None,
    **overrides: Any,
) -> RunEstimate:
    """Plan a run of a recipe (name or path), or of a model on `text`.

    A model's run has the defaults of a recipe, ten million tokens a round, and is taught as the README's recipe is. `overrides` are recipe
    keys. Raises InputError for whatever the user has to mend.
    """
    asked, progress = asked or PlanRequest(), progress or Progress(quiet=True)
    asked = replace(asked, gpu=asked.gpu.lower())
    goal = {} if asked.fit is None else goal_of(asked.fit)
    recipe = _recipe(source, text, {key.replace("__", "."): value for key, value in overrides.items()} | goal)
    on = device() if asked.gpu == HERE else torch.device("cuda")
    recipe = recipe.model_copy(update={"training": settled(recipe.training, on)})
    require(recipe.data.sources)
    machine = machinery(asked.gpu, asked.gpus, recipe.training.precision, asked.price, Path())
    if asked.probe and asked.gpu != HERE:
        raise InputError(f"--probe tries this machine, and --gpu is {asked.gpu!r}: leave one out")
    with progress.waiting(f"Shape of {recipe.reference}"):
        place = locate(recipe.reference, recipe.revision, trust=recipe.trust_remote_code)
        shape = shape_at(place, recipe.trust_remote_code)
    recipe = load_for_positions(recipe, positions_of(shape.config))
    refuse_depths(recipe, anatomy(shape).depth)
    note_unpacking(place, anatomy(shape).depth, progress)
    pace = assumed(machine.matrix_rate, machine.fp32_rate)
    if asked.probe:
        with progress.waiting("Ten seconds of training on this machine"):
            pace = tried(shape.config, recipe.training, recipe.data.sequence_length, machine.matrix_rate)
    dtype = kept_dtype(place) if recipe.model_dtype == "auto" else DTYPES[recipe.model_dtype]
    with _told_as(asked.fit):
        outlook = Outlook(
            recipe, shape, weight_bytes=weight_bytes(place), dtype=dtype,
            machine=machine, pace=pace, text_tokens=tokens_in_files(recipe.data.train),
        )  # fmt: skip
    return outlook.estimate()


def plan_of(recipe: RunRecipe, reference: Reference, folder: Path, price: float | None = None) -> RunEstimate:
    """The plan of a run in `folder`, whose reference is loaded: the one that it was begun with, or a new one, which `keep_plan` keeps."""
    kept, bound = folder / RunEstimate.NAME, folder / MadeOf.NAME
    if bound.exists():
        MadeOf.load(bound)  # raises if it is damaged, before what it seals is taken for damaged
    if kept.exists() and (bound.exists() or bears_seal(read_whole(kept))):
        return RunEstimate.load(kept)
    model, training = reference.model, recipe.training
    machine = machinery(HERE, processes.count(), training.precision, price, folder)
    pace = assumed(machine.matrix_rate, machine.fp32_rate)
    if model.device.type == "cuda" and processes.count() == 1:
        # A model may be far too small to keep a GPU busy, so its pace is tried. What is compiled for that is used by the run too.
        pace = tried(model.config, training, recipe.data.sequence_length, machine.matrix_rate, _GPU_SECONDS)
    return Outlook(
        recipe, hollow(model.config, type(model)).float(), weight_bytes=weight_bytes(reference.place),
        dtype=reference.written_dtype(recipe.model_dtype), machine=machine, pace=pace,
        text_tokens=tokens_in_files(recipe.data.train),
    ).estimate()  # fmt: skip


def note_plan(planned: RunEstimate, folder: Path) -> None:
    """Write a run's plan when it is told: for good if the folder is bound to its content already, else until it is told again."""
    place = folder / RunEstimate.NAME

    def write() -> None:
        if not (place.exists() and bears_seal(read_whole(place))):
            planned.save(place)

    processes.on_main(write)


def keep_plan(planned: RunEstimate, folder: Path) -> None:
    """Write a run's plan and its machine's rate for good, as they were when the run began, once its folder is bound to its content."""
    note_plan(planned, folder)
    once(Machine, folder / Machine.NAME, lambda: Machine(matrix_rate=planned.machine.matrix_rate))


def goal_of(fit: str) -> dict[str, Any]:
    """Return the recipe keys for a size: blocks (`12`), bytes as written (`200MB`), or how many times faster (`1.5x`).

    Raises InputError for anything else.
    """
    kinds = {"depth": r"\d{1,6}( blocks?)?", "memory": r"\d[\d.]*\s*[kMGT]?B", "latency": r"\d[\d.]*x"}
    kind = next((kind for kind, form in kinds.items() if re.fullmatch(form, fit, re.IGNORECASE)), None)
    target = {kind: int(fit.split()[0]) if kind == "depth" else fit} if kind else {}
    try:
        Size.model_validate(target)
    except ValidationError:
        raise InputError(
            f"--fit {fit!r} is no size: give blocks (12), bytes (200MB, 1.5GB) or how many times faster (1.5x; above 1x)"
        ) from None
    return {"growth.goal": "fit", "growth.target": target, "growth.start": None, "growth.max_depth": None}


@contextmanager
def _told_as(fit: str | None) -> Iterator[None]:
    """Let an error of a size that --fit gave name the option, and not the recipe's key, which nobody wrote."""
    try:
        yield
    except RecipeError as error:
        if fit is None:
            raise
        raise RecipeError(str(error).replace("growth.target", f"--fit {fit!r}")) from None


def shape_at(place: Path, trust: bool) -> PreTrainedModel:
    """A model without its weights, in fp32 as a run has it."""
    found = hollow(gguf_shape(place)) if place.suffix == ".gguf" else open_checkpoint(place, trust).model
    return found.float()


def _recipe(source: str, text: str | None, overrides: dict[str, Any]) -> RunRecipe:
    """The recipe of this name or path, or a plain recipe where `source` is a model."""
    if source in recipe_names() or Path(source).suffix in YAML_SUFFIXES:
        return load_recipe(RunRecipe, source, overrides if text is None else overrides | {"data.train": text})
    tree = {**_PLAIN, "reference": source, "data": {"train": text or "bundled:docstrings"}}
    return load_tree(RunRecipe, tree, {}, overrides)
