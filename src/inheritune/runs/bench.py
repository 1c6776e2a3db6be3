"""What every part of a run shares: the reference, the text, the fixed validation documents, and comparing on them."""

import copy
import math
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.config.recipes import RunRecipe
from inheritune.data import tokens
from inheritune.data.batches import Batches
from inheritune.data.building import Tell
from inheritune.decoder.anatomy import text_config
from inheritune.errors import RecipeError, TrainingError
from inheritune.evaluation.losses import Validation, document_losses, mean_loss, validation
from inheritune.evaluation.outside import compare_outside, windows
from inheritune.evidence.gap import Gap, gap
from inheritune.models.reference import Reference, embedding_rows
from inheritune.runs.folder import once
from inheritune.runs.made_of import bind, made_of
from inheritune.runtime import gauge, processes
from inheritune.runtime.device import device

_FEW_DOCUMENTS, _FEW_SOURCES = 30, 10


@dataclass(frozen=True)
class Measured:
    """One evaluation: mean loss in nats per token, each document's, the gap to the reference, and its cost."""

    val_loss: float
    gap: Gap
    losses: np.ndarray
    tokens: int
    flops: float
    seconds: float


class Bench:
    """Reference, text and validation of one run; made once, used by the target's rounds and the controls."""

    def __init__(self, recipe: RunRecipe, folder: Path, reference: Reference, tell: Tell = lambda _: None):
        self.recipe, self.folder, self.reference = recipe, folder, reference
        length, positions = (
            recipe.data.sequence_length,
            getattr(text_config(self.model.config), "max_position_embeddings", None),
        )
        for key, wanted in (("data.sequence_length", length), ("diagnosis.length", recipe.diagnosis.length)):
            if positions and wanted > positions:
                raise RecipeError(
                    f"{key} is {wanted} and the reference has {positions} positions: make it at most that"
                )
        tokenizer = reference.tokenizer
        self.train_tokens, valid_tokens = processes.main_first(
            lambda: tokens.prepare(
                recipe.data,
                tokenizer.backend_tokenizer,
                tokenizer.eos_token_id,
                embedding_rows(self.model),
                tell,
            )
        )
        self.documents: Validation = validation(valid_tokens, recipe.data)
        outside = self._outside_texts(tell)
        self.outside = {
            name: windows(text, name, positions or length, recipe.data.outside_tokens) for name, text in outside.items()
        }
        self.batches = self._batches()
        texts = {"data.train": self.train_tokens, "data.valid": valid_tokens}
        texts |= {f"data.outside.{name}": text for name, text in outside.items()}
        self.made_of = made_of(texts, tokenizer.backend_tokenizer, reference.place)
        self.unchecked: list[str] = []
        processes.on_main(lambda: self.unchecked.extend(bind(folder, self.made_of)))

    def under(self, recipe: RunRecipe) -> "Bench":
        """The same text, documents and reference for a recipe of another seed, rate or objective."""
        other = copy.copy(self)
        other.recipe = recipe
        other.batches = other._batches()
        return other

    def _batches(self) -> Batches:
        recipe, length = self.recipe, self.recipe.data.sequence_length
        return Batches(self.train_tokens, recipe.seed, recipe.training.batch_tokens // length, length)

    def _outside_texts(self, tell: Tell) -> dict[str, tokens.Tokens]:
        data, words = self.recipe.data, self.reference.tokenizer
        vocabulary = embedding_rows(self.model)
        return {
            name: tokens.outside(data, name, words.backend_tokenizer, words.eos_token_id, vocabulary, tell)
            for name in data.outside
        }

    @property
    def model(self) -> PreTrainedModel:
        """The reference model."""
        return self.reference.model

    def sequences(self, count: int, length: int) -> Tensor:
        """Training text for measuring, of shape (count, length): evenly spread, the same each time."""
        ids = self.train_tokens.ids
        count = min(count, len(ids) // length)
        starts = np.linspace(0, len(ids) - length, count, dtype=np.int64)
        return torch.from_numpy(np.stack([ids[start : start + length] for start in starts]).astype(np.int64)).to(
            device()
        )

    @cached_property
    def reference_measured(self) -> dict[str, Any]:
        """The reference's losses on the validation documents, and what they cost; measured once a run."""

        def measure() -> dict[str, Any]:
            began = time.perf_counter()
            losses = document_losses(self.model, self.documents, self.recipe.training.precision)
            seconds = time.perf_counter() - began
            return {
                "val_loss": mean_loss(losses, self.documents), "losses": losses.tolist(),
                "tokens": self.documents.tokens, "flops": self.documents.flops(self.model), "seconds": seconds,
            }  # fmt: skip

        return once(self.folder / "reference.json", measure)

    @property
    def matrix_rate(self) -> float:
        """FLOP/s of this machine's matrix products, measured once a run: what MFU is a share of."""
        precision = self.recipe.training.precision
        return once(self.folder / "machine.json", lambda: {"matrix_rate": gauge.matrix_rate(precision)})["matrix_rate"]

    @property
    def reference_loss(self) -> float:
        """The reference's loss: the line that a target has to meet."""
        return self.reference_measured["val_loss"]

    def cautions(self) -> list[str]:
        """What a reader of the verdict must know: a folder of unknown content, a reference that knows nothing, few documents."""
        found = list(self.unchecked)
        chance, documents = math.log(embedding_rows(self.model)), len(self.documents.weights)
        if self.reference_loss > 0.9 * chance:
            found.append(
                f"the reference's loss, {self.reference_loss:.2f}, is near that of guessing, {chance:.2f}: untrained, or the"
                " wrong tokenizer? Matching it means little"
            )
        if documents < _FEW_DOCUMENTS:
            found.append(
                f"the interval rests on {documents} documents only: give data.valid, or a larger data.valid_share"
            )
        return found + self._few_sources()

    def _few_sources(self) -> list[str]:
        if self.documents.sources is None or (count := len(np.unique(self.documents.sources))) >= _FEW_SOURCES:
            return []
        if count == 1:
            return ["all validation documents come from one book or file, so the interval speaks of that one alone"]
        return [f"the interval rests on {count} books or files only: give more of them in data.valid"]

    def compare(self, model: PreTrainedModel, confidence: float | None = None) -> Measured:
        """A model against the reference on the same documents, paired, at the recipe's confidence or another."""
        began, match = time.perf_counter(), self.recipe.match
        losses = document_losses(model, self.documents, self.recipe.training.precision)
        if not np.isfinite(losses).all():
            raise TrainingError(
                "the loss is not a finite number on the validation documents, so training has blown up; the checkpoints before"
                f" are kept in {str(self.folder)!r}: start another run with a lower training.peak_lr"
            )
        against = gap(
            losses,
            self.reference_measured["losses"],
            tokens=self.documents.weights,
            documents=self.documents.clusters,
            margin=match.margin,
            confidence=confidence or match.confidence,
        )
        return Measured(
            mean_loss(losses, self.documents), against, losses, self.documents.tokens, self.documents.flops(model),
            time.perf_counter() - began,
        )  # fmt: skip

    def compare_outside(self, model: PreTrainedModel) -> dict[str, Any]:
        """A model against the reference on the outside texts."""
        return compare_outside(model, self.model, self.outside, self.recipe.match)
