"""What every part of a run shares: the reference, the text, the fixed validation documents, and comparing on them."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Objective
from inheritune.data.batches import Batches
from inheritune.data.coding import Coding
from inheritune.decoder.anatomy import embedding_rows
from inheritune.decoder.costs import forward_flops_per_token, parameter_count
from inheritune.errors import ModelError, OutputError, RecipeError, TrainingError
from inheritune.evaluation import held_out
from inheritune.evaluation.beginnings import compare_beginnings
from inheritune.evaluation.losses import ValidationSet, clusters_of, document_losses, in_windows, mean_loss, validation
from inheritune.evaluation.outside import compare_outside, openings
from inheritune.evaluation.sanity import explained_nats_per_byte
from inheritune.evaluation.token_losses import IGNORED
from inheritune.evidence.gap import FEW_SOURCES, Gap, gap
from inheritune.models.begin import AUTO, Begin, begin_told
from inheritune.models.reference import Reference
from inheritune.progress import LOOK, Progress, Rates
from inheritune.records.entry import Spent
from inheritune.records.profile import DocumentsRead
from inheritune.records.stages import BeginLosses, Machine, OutsideLosses, ReferenceLosses, so_far
from inheritune.runs.folder import once, timed
from inheritune.runs.made_of import bind, made_of, texts_of
from inheritune.runtime import gauge, processes
from inheritune.runtime.device import CPU
from inheritune.runtime.narrow import narrow, widen
from inheritune.surgery.in_memory import as_map, assemble
from inheritune.training.halves import in_halves

_FEW_DOCUMENTS = 30
# The text on which the reference is asked about the begin of text, before anything is spent.
_ROWS_ASKED, _LENGTH_ASKED = 16, 128


@dataclass(frozen=True)
class Measured:
    """One evaluation: mean loss in nats per token, each document's, the gap to the reference, and its cost."""

    val_loss: float
    gap: Gap
    losses: np.ndarray
    spent: Spent


class Bench:
    """Reference, text and validation of one run; made once, used by the target's rounds and the controls."""

    def __init__(self, recipe: RunRecipe, folder: Path, reference: Reference, progress: Progress | None = None):
        self.recipe, self.folder, self.reference, self.home = recipe, folder, reference, reference.model.device
        self.progress = progress or Progress(quiet=True)
        length, positions = recipe.data.sequence_length, reference.positions
        for key, wanted in (("data.sequence_length", length), ("diagnosis.length", recipe.diagnosis.length)):
            if positions and wanted > positions:
                raise RecipeError(
                    f"{key} is {wanted} and the reference has {positions} positions: make it at most that"
                )
        tokenizer = reference.tokenizer
        self.coding = Coding.of_model(tokenizer, recipe.data.begin, recipe.data.loss_on)
        self.begin = self.coding.begin
        vocabulary = embedding_rows(self.model)
        texts = processes.main_first(lambda: texts_of(recipe.data, self.coding, vocabulary, self.progress.now))
        self.train_tokens, valid_tokens = texts["data.train"], texts["data.valid"]
        self.documents: ValidationSet = validation(valid_tokens, recipe.data, self.begin)
        self.further = held_out.further(valid_tokens, recipe.data.valid_documents)
        self.valid_tokens = valid_tokens
        self.shares_books = valid_tokens.shares_books
        self.outside = {
            name: openings(
                texts[f"data.outside.{name}"], name, positions or length, recipe.data.outside_tokens, self.begin
            )
            for name in recipe.data.outside
        }
        self.batches = self._batches()
        self.made_of = made_of(texts, tokenizer.backend_tokenizer, reference.place)
        self.unchecked: list[str] = []
        processes.on_main(lambda: self.unchecked.extend(bind(folder, self.made_of)))
        self.beginnings = self._ask_beginnings()

    def under(self, recipe: RunRecipe) -> "Bench":
        """The same text, documents and reference for a recipe of another seed, rate or objective."""
        other = copy.copy(self)
        other.recipe = recipe
        other.batches = other._batches()
        return other

    def _batches(self) -> Batches:
        recipe, length = self.recipe, self.recipe.data.sequence_length
        return Batches(self.train_tokens, recipe.seed, recipe.training.batch_tokens // length, length, self.begin)

    def _ask_beginnings(self) -> BeginLosses:
        """Measure the reference's loss behind the begin of text in use, without one, and behind other tokens; kept in `begin.json`.

        Raises RecipeError where another is better and the recipe does not name the one in use.
        """

        place = self.folder / BeginLosses.NAME

        def measure() -> BeginLosses:
            tokenizer, model = self.reference.tokenizer, self.model
            others = [
                Begin((token,)) for token in (tokenizer.eos_token_id, tokenizer.bos_token_id) if token is not None
            ]
            begins = list(dict.fromkeys([self.begin, Begin(), *others]))
            length = min(_LENGTH_ASKED, self.recipe.data.sequence_length) - max(map(len, begins))
            rows, precision = self._spread(_ROWS_ASKED, length), self.recipe.training.precision
            count = partial(Rates(self.progress), "Begin of text: the reference is asked which one it was trained with")
            found, seconds = timed(lambda: compare_beginnings(model, rows, begins, precision, count, so_far(place)))
            self._require_finite(found.losses)
            losses = {begin_told(begin, tokenizer): loss for begin, loss in zip(begins, found.losses, strict=True)}
            worse = None if found.better is None else _told_beginnings(losses, found.better)
            if worse and self.recipe.data.begin == AUTO:
                raise RecipeError(worse)
            flops = float(found.tokens) * forward_flops_per_token(model, length)
            return BeginLosses(losses=losses, worse=worse, tokens=found.tokens, flops=flops, seconds=seconds)

        self.progress.goes_on("What the reference is asked of the begin of text", so_far(place))
        found = once(BeginLosses, place, measure)
        processes.on_main(lambda: so_far(place).unlink(missing_ok=True))
        self.progress.note(_all_beginnings(found.losses))
        return found

    def _require_finite(self, losses: ArrayLike) -> None:
        if not np.isfinite(losses).all():
            raise ModelError(
                f"the reference's loss is not a finite number on this text in {self.recipe.training.precision}: take another"
                " training.precision, or another reference"
            )

    @property
    def model(self) -> PreTrainedModel:
        """The reference model in fp32, on the device where it was loaded."""
        return self._moved(self.home)

    def teacher(self, objective: Objective | None) -> PreTrainedModel | None:
        """The reference as the teacher of a training; None where nothing is taught, and then a reference on a GPU is kept narrow.

        On a GPU in bf16 the teacher is a copy which gives the same bits in half the memory, and the reference itself is kept narrow.
        """
        taught = objective is not None and objective.taught
        if taught and (self.home == CPU or self.recipe.training.precision != "bf16"):
            return self.model
        aside = self.kept_narrow()
        return in_halves(aside).to(self.home) if taught else None  # type: ignore[arg-type]

    def set_aside(self) -> PreTrainedModel:
        """The reference in fp32 in the CPU's memory, until `model` is asked for: to check a cut that takes up the GPU's memory."""
        return self._moved(CPU)

    def kept_narrow(self) -> PreTrainedModel:
        """The reference in the CPU's memory, in the dtype of its file where that holds its weights exactly.

        Whoever computes with a copy widens it first. On a machine without a GPU the reference stays as it is.
        """
        model = self.reference.model
        if self.home != CPU:
            narrow(model, self.reference.dtype)  # before the move, so that half the bytes are moved
        return model.to(CPU)  # type: ignore[arg-type]

    def _moved(self, there: torch.device) -> PreTrainedModel:
        model = self.reference.model
        if model.device != there:
            model.to(there)  # type: ignore[arg-type]
        widen(model.parameters())
        return model

    def cut(self, blocks: Sequence[int]) -> PreTrainedModel:
        """Build a model of these blocks of the reference, in fp32, on the device where that was loaded; the reference is kept narrow."""
        made = assemble([self.kept_narrow()], as_map(blocks), self.recipe.seed, on=self.home, dtype=torch.float32)
        widen(made.parameters())
        return made

    @property
    def precision_of_cuts(self) -> str:
        """The precision at which cuts are compared before any training: on a GPU the training's, on the CPU fp32.

        Proofs, repairs and the diagnosis use fp32 everywhere, since they need its last digits.
        """
        return "fp32" if self.home == CPU else self.recipe.training.precision

    @property
    def written_dtype(self) -> torch.dtype:
        """The dtype that the run's model is written in."""
        return self.reference.written_dtype(self.recipe.model_dtype)

    def sequences(self, count: int, length: int) -> Tensor:
        """Training text to measure on, as ids (count, length), or fewer rows of a short text: evenly spread over the text, the same each time, each with its begin of text."""
        rows = [self.begin.opening(row)[:length] for row in self._spread(count, length)]
        return torch.from_numpy(np.stack(rows).astype(np.int64)).to(self.home)

    def documents_of(self, count: int, length: int) -> DocumentsRead:
        """How many of the training documents the `sequences` of this count and length come from."""
        return self.train_tokens.documents_in([(start, start + length) for start in self._starts(count, length)])

    def _spread(self, count: int, length: int) -> list[np.ndarray]:
        return [self.train_tokens.read(start, start + length) for start in self._starts(count, length)]

    def _starts(self, count: int, length: int) -> np.ndarray:
        text = self.train_tokens
        return np.linspace(0, len(text) - length, min(count, len(text) // length), dtype=np.int64)

    @cached_property
    def reference_measured(self) -> ReferenceLosses:
        """The reference's losses on the validation documents, and what they cost; measured once a run."""

        return self.reference_on(self.documents, self.folder / ReferenceLosses.NAME)

    def reference_on(self, documents: ValidationSet, place: Path) -> ReferenceLosses:
        """The reference's losses on documents, kept at `place`. Raises OutputError if those kept are of another number of documents."""

        def measure() -> ReferenceLosses:
            precision = self.recipe.training.precision
            place.parent.mkdir(parents=True, exist_ok=True)
            with self.progress.waiting("Reference's loss on the validation documents", "passes") as count:
                losses, seconds = timed(lambda: document_losses(self.model, documents, precision, count, so_far(place)))
            self._require_finite(losses)
            return ReferenceLosses(
                val_loss=mean_loss(losses, documents), losses=losses.tolist(),
                tokens=documents.tokens, flops=documents.flops(self.model), seconds=seconds,
            )  # fmt: skip

        self.progress.goes_on("The reading of the validation documents", so_far(place))
        found = once(ReferenceLosses, place, measure, together=True)
        processes.on_main(lambda: so_far(place).unlink(missing_ok=True))
        if len(found.losses) != len(documents.weights):
            raise OutputError(
                f"{str(place)!r} has the losses of {len(found.losses)} documents, and there are"
                f" {len(documents.weights)}: {ReferenceLosses.MENDED_BY}"
            )
        return found

    @property
    def most_documents(self) -> int:
        """The number of documents that are read where a look reads on to the end."""
        return len(self.documents.weights) + sum(map(len, self.further))

    def further_documents(self, number: int) -> ValidationSet:
        """The documents that are read the `number`th time (from 0) that a look reads on."""
        before = len(self.documents.weights) + sum(map(len, self.further[:number]))
        return in_windows(self.valid_tokens, self.further[number], self.recipe.data, self.begin, before)

    @property
    def matrix_rate(self) -> float:
        """FLOP/s of this machine's matrix products, measured once a run. MFU is a share of it."""
        precision = self.recipe.training.precision
        return machine_rate(self.folder, precision, self.home)

    @property
    def reference_loss(self) -> float:
        """The reference's loss: the line that a target has to meet."""
        return self.reference_measured.val_loss

    def cautions(self, read: int = 0) -> list[str]:
        """What a reader of the verdict should know: a folder whose content was not checked, a reference at chance, few documents.

        `read` is how many documents the verdict rests on, where a look has read on.
        """
        sets = [self.documents]
        while (documents := sum(len(each.weights) for each in sets)) < read:
            sets.append(self.further_documents(len(sets) - 1))
        found = list(self.unchecked)
        if worse := self.beginnings.worse:
            found.append(worse)
        chance = math.log(embedding_rows(self.model))
        nats, most = self._nats_per_byte, explained_nats_per_byte(parameter_count(self.model))
        if self.reference_loss > 0.9 * chance:
            found.append(
                f"the reference's loss, {self.reference_loss:.2f}, is near that of guessing, {chance:.2f}: untrained, or the"
                " wrong tokenizer? Matching it means little"
            )
        elif nats > most:
            found.append(
                f"the reference's loss, {self.reference_loss:.2f} nats per token or {nats:.2f} per byte, is above what its size"
                f" explains on natural text, {most:.2f} per byte: another tokenizer, another begin of text (data.begin), damaged weights, or"
                " a kind of text that it does not know? Matching it may mean little"
            )
        if documents < _FEW_DOCUMENTS:
            found.append(
                f"the interval rests on {documents} documents only: give data.valid, or a larger data.valid_share"
            )
        if self.shares_books:
            found.append(
                "what is held out are sections of books or files that are trained on too, since too few could be held out whole:"
                " give data.valid to know of others"
            )
        return found + _few_sources(sets)

    @cached_property
    def _nats_per_byte(self) -> float:
        rows = [row[row != IGNORED] for row in self.documents.labels]
        text = self.reference.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return self.reference_loss * self.documents.tokens / max(1, sum(len(part.encode()) for part in text))

    def compare(self, model: PreTrainedModel, confidence: float | None = None) -> Measured:
        """Compare a model with the reference on the validation documents, paired, at the recipe's confidence or another."""
        losses, spent = self.losses_on(self.documents, model)
        against = self.gap_on([self.documents], losses, self.reference_measured.losses, confidence)
        return Measured(mean_loss(losses, self.documents), against, losses, spent)

    def losses_on(self, documents: ValidationSet, model: PreTrainedModel) -> tuple[np.ndarray, Spent]:
        """A model's loss on each document, and the cost of measuring it. Raises TrainingError where one is not finite."""
        precision, count = self.recipe.training.precision, self.progress.tally(LOOK)
        losses, seconds = timed(lambda: document_losses(model, documents, precision, count))
        if not np.isfinite(losses).all():
            raise TrainingError(
                "the loss is not a finite number on the validation documents, so training has blown up; the checkpoints before"
                f" are kept in {str(self.folder)!r}: start another run with a lower training.peak_lr"
            )
        return losses, Spent(tokens=documents.tokens, flops=documents.flops(model), seconds=seconds)

    def gap_on(
        self, sets: Sequence[ValidationSet], losses: ArrayLike, reference: ArrayLike, confidence: float | None = None
    ) -> Gap:
        """The gap between a model's `losses` on all documents of these sets and the `reference`'s."""
        return gap(
            losses,
            reference,
            tokens=np.concatenate([found.weights for found in sets]),
            documents=clusters_of(sets),
            margin=self.recipe.match.margin,
            confidence=confidence or self.recipe.match.confidence,
        )

    def compare_outside(self, model: PreTrainedModel) -> OutsideLosses:
        """Compare a model with the reference on the outside texts."""
        precision = self.recipe.training.precision
        return compare_outside(model, self.model, self.outside, self.recipe.match, precision, self.begin.unasked)


def _few_sources(sets: Sequence[ValidationSet]) -> list[str]:
    sources = [each.sources for each in sets if each.sources is not None]
    if not sources or (count := len(np.unique(np.concatenate(sources)))) >= FEW_SOURCES:
        return []
    if count == 1:
        return ["all validation documents come from one book or file, so the interval speaks of that one alone"]
    return [f"the interval rests on {count} books or files only: give more of them in data.valid"]


def machine_rate(folder: Path, precision: str, on: torch.device) -> float:
    """FLOP/s of this machine's matrix products, measured once per run folder."""

    def measure() -> Machine:
        return Machine(matrix_rate=gauge.matrix_rate(precision, on))

    return once(Machine, folder / Machine.NAME, measure).matrix_rate


def _all_beginnings(losses: dict[str, float]) -> str:
    (used, loss), *others = losses.items()
    with_others = ", ".join(f"{least:.2f} with {other!r}" for other, least in others)
    beside = f", and {with_others}" if others else ""
    return f"data.begin is {used!r}: the reference has {loss:.2f} nats per token behind it{beside}; another can be set"


def _told_beginnings(losses: dict[str, float], better: int) -> str:
    (used, loss), *others = losses.items()
    best, least = others[better - 1]
    return (
        f"the reference has {loss:.2f} nats per token on this text with data.begin {used!r} in front, and {least:.2f} with {best!r}: set"
        f" data.begin to {best!r}, or to {used!r} to go on as it is"
    )
