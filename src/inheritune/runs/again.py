"""Measure a model on a run's own held-out documents: `inheritune evaluate --run`."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.config.strict_yaml import read_file, read_yaml
from inheritune.data import tokens
from inheritune.data.coding import Coding
from inheritune.data.corpora import require
from inheritune.data.store import tokenizer_fingerprint
from inheritune.decoder.anatomy import anatomy, embedding_rows
from inheritune.decoder.costs import parameter_count
from inheritune.errors import DataError, InputError, ModelError
from inheritune.evaluation.found import EvaluatedModel, Evaluation, RunMeasured, TextLoss
from inheritune.evaluation.guard import TOLERANCE, answers, counted, guard
from inheritune.evaluation.guard_items import items
from inheritune.evaluation.losses import ValidationSet, document_losses, mean_loss, validation
from inheritune.evaluation.measure import Against
from inheritune.evaluation.token_by_token import held_out_starts, token_by_token
from inheritune.evidence.gap import gap
from inheritune.models.begin import Begin
from inheritune.models.quiet import loading
from inheritune.models.reference import Reference, load_reference, with_size
from inheritune.progress import Progress
from inheritune.records.guard import Guard
from inheritune.records.made_of import MadeOf
from inheritune.records.result import Result
from inheritune.runs.folder import CONFIG
from inheritune.runs.made_of import made_of


def evaluate_run(
    folder: Path, model: str | None = None, progress: Progress | None = None, guarded: bool = False
) -> Evaluation:
    """Compare `model`, or the run's own target, with the run's reference on the documents that the run held out.

    With `guarded` both also answer the guard set, with the tolerance of the run's recipe where it has one, and are compared token by
    token. Losses are computed as in the run, in its precision, and nothing in its folder is changed. Raises InputError for a folder that
    is no run's, content other than what the run was begun with, and a model that reads other tokens.
    """
    progress, recipe = progress or Progress(quiet=True), _recipe(folder)
    name = model or str(_target(folder))
    reference, own = (_load(source, recipe, progress) for source in (recipe.reference, name))
    coding = Coding.of_model(reference.tokenizer, recipe.data.begin, recipe.data.loss_on)
    held_out = _held_out(recipe, folder, reference, coding, progress)
    documents = validation(held_out, recipe.data, coding.begin)
    if tokenizer_fingerprint(own.tokenizer.backend_tokenizer) != tokenizer_fingerprint(
        reference.tokenizer.backend_tokenizer
    ):
        raise ModelError(
            f"{name!r} reads other tokens than the run's reference, so their losses do not compare on these documents: leave --run out,"
            " and give --reference and --data, for bits per byte"
        )
    losses = list(_losses((own, reference), documents, recipe, progress))
    found = gap(
        losses[0],
        losses[1],
        tokens=documents.weights,
        documents=documents.clusters,
        margin=recipe.match.margin,
        confidence=_confidence(folder, recipe),
    )
    models = [_told(*pair, documents) for pair in zip((own, reference), losses, strict=True)]
    told = Evaluation(data=_about(recipe, folder, documents), models=models, gap=Against(found, None))
    if not guarded:
        return told
    text = held_out_starts(held_out, recipe.data.sequence_length, reference.positions, coding.begin)
    with progress.waiting("Both models token by token"):
        by_token = token_by_token(
            own.model, reference.model, reference.tokenizer, text, recipe.match, coding.begin.unasked
        )
    guard = _guard(own, reference, recipe, coding.begin, progress)
    return told.model_copy(update={"agreement": by_token.agreement, "going_on": by_token.going_on, "guard": guard})


def _guard(own: Reference, reference: Reference, recipe: RunRecipe, begin: Begin, progress: Progress) -> Guard:
    """Both models on the guard set, behind the run's begin of text."""
    given = items()
    ours, theirs = (
        answers(one.model, one.tokenizer, given, begin, counted(given, one.name, progress)).right
        for one in (own, reference)
    )
    return guard(given, ours, theirs, recipe.match.confidence, recipe.match.guard or TOLERANCE)


def _recipe(folder: Path) -> RunRecipe:
    if not (folder / CONFIG).is_file():
        raise InputError(f"{str(folder)!r} is no run folder, as it has no {CONFIG}: give the --out of `inheritune run`")
    tree = read_yaml(read_file(folder / CONFIG), repr(str(folder / CONFIG)))
    if "reference" not in tree or "methods" in tree:
        raise InputError(
            f"{str(folder)!r} is the folder of another command than `run`: give the --out of `inheritune run`"
        )
    return check(RunRecipe, tree)


def _target(folder: Path) -> Path:
    if not (folder / "model").is_dir():
        raise InputError(f"{str(folder)!r} has no model yet, as its run has not ended: end it, or name a model")
    return folder / "model"


def _load(source: str, recipe: RunRecipe, progress: Progress) -> Reference:
    revision = recipe.revision if source == recipe.reference else None
    with loading(progress, f"Model: {with_size(source)}"):
        return load_reference(source, revision, recipe.trust_remote_code)


def _held_out(
    recipe: RunRecipe, folder: Path, reference: Reference, coding: Coding, progress: Progress
) -> tokens.Tokens:
    """The run's held-out text. Raises DataError if it is not the text that the run was begun with."""
    for sources in (recipe.data.train, recipe.data.valid or []):
        require(sources)
    train, valid = tokens.prepare(recipe.data, coding, embedding_rows(reference.model), progress.now)
    now = made_of({"data.train": train, "data.valid": valid}, coding.tokenizer, reference.place)
    begun = MadeOf.load(folder / MadeOf.NAME)
    begun = begun.model_copy(update={"texts": {name: begun.texts.get(name, "") for name in now.texts}})
    if found := list(begun.differences(now)):
        raise DataError(
            f"{str(folder)!r} was begun with other content: {', '.join(found)} changed since, so what it held out cannot be told: bring"
            " it back as it was"
        )
    return valid


def _losses(
    models: tuple[Reference, ...], documents: ValidationSet, recipe: RunRecipe, progress: Progress
) -> Iterator[np.ndarray]:
    for one in models:
        progress.stage(f"{one.name}: loss on {len(documents.weights)} held out documents")
        losses = document_losses(one.model, documents, recipe.training.precision)
        if not np.isfinite(losses).all():
            raise ModelError(
                f"the loss of {one.name!r} is not a finite number on the held out documents: it is damaged"
            )
        yield losses


def _confidence(folder: Path, recipe: RunRecipe) -> float:
    """The confidence of the run's own gap once the run has ended, and until then the recipe's."""
    place = folder / "result.json"
    return Result.load(place).look_confidence if place.is_file() else recipe.match.confidence


def _about(recipe: RunRecipe, folder: Path, documents: ValidationSet) -> RunMeasured:
    return RunMeasured(
        run=str(folder), documents=len(documents.weights), tokens=documents.tokens, loss_on=recipe.data.loss_on,
        precision=recipe.training.precision, margin=recipe.match.margin, confidence=_confidence(folder, recipe),
    )  # fmt: skip


def _told(one: Reference, losses: np.ndarray, documents: ValidationSet) -> EvaluatedModel:
    loss = mean_loss(losses, documents)
    text = TextLoss(val_loss=loss, perplexity=math.exp(loss), tokens=documents.tokens)
    depth, parameters = anatomy(one.model).depth, parameter_count(one.model)
    return EvaluatedModel(model=one.name, depth=depth, parameters=parameters, text=text)
