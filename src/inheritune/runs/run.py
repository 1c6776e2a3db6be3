"""The composition root: a recipe becomes a reference, text, a run folder and, through `algorithm.py`, a result."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from inheritune.choosing.by_hand import blocks_by_hand, refuse_depths
from inheritune.config.loading import load_for_positions, load_recipe, to_yaml
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import named_sources
from inheritune.config.strict_yaml import read_file
from inheritune.data.coding import Coding
from inheritune.data.corpora import require
from inheritune.decoder.anatomy import anatomy, depth_of, positions_of
from inheritune.decoder.counted import foreseen, miscounted
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.parts import PARTS
from inheritune.disk.files import digest, write_text, writing
from inheritune.disk.folders import whole_folder
from inheritune.models.export import write_model
from inheritune.models.find import locate
from inheritune.models.folder import CARD
from inheritune.models.gguf import read_once
from inheritune.models.hollow import tower_of
from inheritune.models.quiet import loading
from inheritune.models.reference import BUNDLED, Reference, load_reference, load_tokenizer, with_size
from inheritune.progress import Progress
from inheritune.records.made_of import MadeOf
from inheritune.records.model_folder import ModelOrigin
from inheritune.records.result import Result
from inheritune.records.rows import METRICS
from inheritune.records.stages import LOSSES
from inheritune.report.card import model_card, public_name
from inheritune.report.page import write_report
from inheritune.report.plan_words import held_in_words, in_two_lines
from inheritune.runs.algorithm import carry_out
from inheritune.runs.bench import Bench
from inheritune.runs.controls import Controls, names
from inheritune.runs.folder import CONFIG, holding, left_if_used
from inheritune.runs.going_on import noting_how
from inheritune.runs.hardware import require_price
from inheritune.runs.lab import FolderLab
from inheritune.runs.made_of import bind, made_of, texts_of
from inheritune.runs.outcome import assemble_result, footprint
from inheritune.runs.plan import keep_plan, note_plan, plan_of, shape_at
from inheritune.runs.status import run_status
from inheritune.runs.status_words import live_view
from inheritune.runtime import processes
from inheritune.runtime.device import device, make_repeatable
from inheritune.runtime.interruption import stop_said
from inheritune.surgery.by_model import print_of
from inheritune.surgery.record import license_of
from inheritune.training.kernels import settled


def run(
    recipe: str = "laptop",
    out: str | None = None,
    progress: Progress | None = None,
    price: float | None = None,
    **overrides: Any,
) -> Result:
    """Carry out a recipe (name or path) in the folder `out`, or continue it there; returns what `result.json` holds.

    `price` is what a device-hour costs, in any money. `overrides` are recipe keys, dotted or nested as `training__peak_lr`. Raises
    InputError for whatever the user has to mend, TrainingError where training cannot go on, Interrupted after a signal.
    """
    checked = load_recipe(RunRecipe, recipe, {key.replace("__", "."): value for key, value in overrides.items()})
    require_price(price)
    with processes.joined(checked.processes.timeout_seconds):
        checked = checked.model_copy(update={"training": settled(checked.training, device())})
        speaks = progress if progress and processes.is_main() else Progress(quiet=True)
        return _run(checked, Path(out or f"runs/{checked.name}"), speaks, price)


def _run(checked: RunRecipe, folder: Path, progress: Progress, price: float | None) -> Result:
    if ended := _ended_before(folder, checked):
        return _looked_at(ended, checked, folder, progress)
    with closing(progress), _opened(checked, folder, progress) as (checked, reference):
        make_repeatable(checked.seed, checked.training.repeatable)
        planned = plan_of(checked, reference, folder, price)
        for line in in_two_lines(planned):
            progress.note(line)
        progress.stage(f"Text: {named_sources(checked.data.train)}")
        with left_if_used(folder):
            with writing(folder):
                note_plan(planned, folder)
            bench = Bench(checked, folder, reference, progress)
        progress.note(
            f"{len(bench.train_tokens):,} training tokens; {len(bench.documents.weights):,} validation documents,"
            f" {bench.documents.tokens:,} tokens in all, on which the reference has {bench.reference_loss:.4f} nats per token"
        )
        for caution in (*bench.cautions(), *_counting(checked, reference.model.config)):
            progress.note(f"Caution: {caution}")
        with writing(folder):
            keep_plan(planned, folder)
            return _carry_out(checked, folder, bench, progress)


@contextmanager
def _opened(recipe: RunRecipe, folder: Path, progress: Progress) -> Iterator[tuple[RunRecipe, Reference]]:
    """Hold the run folder and load the reference; yields the recipe, fitted to the reference's positions, and the reference.

    The folder is held, and there for `status`, before weights are read.
    """
    source = recipe.reference
    here = "" if source == BUNDLED or Path(source).exists() else " (no such folder here: asking the hub)"
    with ExitStack() as held:
        with loading(progress, f"Reference: {with_size(source)}{here}"):
            require(recipe.data.sources)
            place = locate(source, recipe.revision, trust=recipe.trust_remote_code)
            with read_once(place):
                shape = shape_at(place, recipe.trust_remote_code)
                recipe = load_for_positions(recipe, positions_of(shape.config))
                refuse_depths(recipe, anatomy(shape).depth)
                held.enter_context(holding(folder, recipe))
                held.enter_context(noting_how(folder, recipe))
                with left_if_used(folder):
                    reference = load_reference(source, trust=recipe.trust_remote_code, place=place)
        yield recipe, reference


def _looked_at(ended: Result, recipe: RunRecipe, folder: Path, progress: Progress) -> Result:
    """Return the result of a run that has ended, after its content is checked against what it was begun with. No weights are loaded."""
    progress.stage(f"This run has ended: {ended.message}")
    progress.note("Nothing is done again; whether its text, tokenizer and reference are still the same is looked at")
    with closing(progress), stop_said("this run has ended, and all of it is kept"), holding(folder, recipe):
        require(recipe.data.sources)
        place = locate(recipe.reference, recipe.revision, trust=recipe.trust_remote_code)
        coding = Coding.of_model(load_tokenizer(str(place)), recipe.data.begin, recipe.data.loss_on)
        # No vocabulary bounds the ids: they are in range if they are those that the run was begun with.
        texts = processes.main_first(lambda: texts_of(recipe.data, coding, sys.maxsize, progress.now))
        content = made_of(texts, coding.tokenizer, place)
        processes.on_main(lambda: bind(folder, content))
    return ended


def _ended_before(folder: Path, recipe: RunRecipe) -> Result | None:
    """The result of a run that ended in this folder by this very recipe; None where anything is left to do, even only the report."""
    config, found, report = (folder / name for name in (CONFIG, "result.json", "report.html"))
    parts = (config, found, report, folder / MadeOf.NAME, folder / "model")
    if not all(part.exists() for part in parts) or read_file(config) != to_yaml(recipe):
        return None
    result = Result.load(found)
    whole = result.recipe == digest(config) and report.stat().st_mtime_ns >= found.stat().st_mtime_ns
    return result if whole else None


def _counting(recipe: RunRecipe, config: PretrainedConfig) -> list[str]:
    """Caution about programs that derive a layer's kind from its number, as far as the target is known before blocks are chosen."""
    if blocks := blocks_by_hand(recipe, depth_of(config)):
        found = miscounted(config, cut_config(config, blocks))
    else:
        found = foreseen(config) if recipe.choice.method != "first" else None
    return [found] if found else []


def _carry_out(recipe: RunRecipe, folder: Path, bench: Bench, progress: Progress) -> Result:
    lab = FolderLab(recipe, folder, bench, progress)
    tree = recipe.model_dump(mode="json")
    progress.view = live_view(lambda: run_status(folder, tree).model, folder / METRICS, lab.depth)
    stop, history = carry_out(lab)
    best = len(history.rounds) if stop.outcome == "matched" else _best(history.rounds)
    tokens = sum(done.tokens for done in history.rounds)
    beside, losses = Controls(bench, folder, progress, len(lab.blocks(best)), tokens), lab.round(best).folder / LOSSES
    controls = [beside.run(name, losses) for name in (names(recipe.objective) if recipe.controls else ())]

    def conclude() -> None:
        target = lab.target(best)
        found = assemble_result(lab, stop, history, best=best, model=target, controls=controls, command=_command())
        _save_model(lab, target, found).save(folder / "result.json")
        write_report(folder)

    processes.on_main(conclude)
    result = Result.load(folder / "result.json")
    progress.stage(result.message)
    for line in held_in_words(result):
        progress.note(line)
    progress.note(f"The model: {result.model_dir}")
    progress.note(f"The report: {result.report}")
    return result


def _best(rounds: tuple) -> int:
    return min(range(len(rounds)), key=lambda index: rounds[index].gap.mean) + 1


def _save_model(lab: FolderLab, target: PreTrainedModel, result: Result) -> Result:
    """Write the target as a plain Hugging Face folder, whole or not at all; returns the result with the target's footprint."""
    reference = lab.bench.reference
    words = None if reference.place.is_dir() else reference.tokenizer
    with whole_folder(lab.folder / "model") as beside:
        write_model(target, beside, source=reference.place, tokenizer=words, dtype=lab.bench.written_dtype)
        takes = footprint(beside, target, lab.bench.written_dtype)
        result = result.model_copy(update={"target": result.target.model_copy(update={"footprint": takes})})
        _origin(lab, target, result).save(beside / ModelOrigin.NAME)
        chats = bool(reference.tokenizer.chat_template)
        write_text(beside / CARD, model_card(result, lab.recipe, license_of(reference.place), chats))
    return result


def _origin(lab: FolderLab, target: PreTrainedModel, result: Result) -> ModelOrigin:
    """The machine-readable record of a run's model, from which other commands know its blocks."""
    reference, tokens = lab.bench.reference, sum(round_.tokens for round_ in result.rounds)
    return ModelOrigin(
        action="run",
        source=public_name(result.reference.model),
        fingerprint=print_of(reference.place),
        reference_depth=result.reference.depth,
        blocks=result.target.blocks,
        parts=sorted(PARTS),
        outside="all",
        proved=False,
        trained_tokens=tokens,
        tower_of=tower_of(reference.place, reference.model),
        miscounted=miscounted(reference.model.config, target.config),
    )


def _command() -> str:
    return (
        " ".join(["inheritune", *sys.argv[1:]])
        if Path(sys.argv[0]).name in ("inheritune", "__main__.py")
        else "inheritune.run(...)"
    )
