"""`inheritune train`: the same loop without a reference, from random weights to a model folder. Makes the bundled reference."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from inheritune.config.loading import load_for_positions, load_recipe
from inheritune.config.recipes import TrainRecipe
from inheritune.config.sections import named_sources
from inheritune.data import corpora, tokens
from inheritune.data.batches import Batches
from inheritune.data.coding import Coding
from inheritune.data.vocabulary import train_tokenizer
from inheritune.decoder.anatomy import anatomy, positions_of
from inheritune.decoder.costs import parameter_count
from inheritune.disk.files import writing
from inheritune.disk.folders import whole_folder
from inheritune.errors import RecipeError, TrainingError
from inheritune.evaluation.losses import document_losses, mean_loss, validation
from inheritune.models.export import write_model
from inheritune.models.load import DTYPES
from inheritune.models.quiet import quiet
from inheritune.models.reference import load_tokenizer
from inheritune.progress import LOOK, Progress, pace
from inheritune.records.entry import Spent
from inheritune.records.made_of import MadeOf
from inheritune.records.rows import METRICS, StepDone, ValidationRow, step_of
from inheritune.records.stages import Position, Trained
from inheritune.report.plan_words import tokens_told
from inheritune.runs.bench import machine_rate
from inheritune.runs.folder import holding, left_if_used, timed
from inheritune.runs.going_on import noting_how
from inheritune.runs.made_of import bind, is_begun, made_of
from inheritune.runs.status import train_status
from inheritune.runs.status_words import live_view
from inheritune.runs.trackers import trackers
from inheritune.runtime import processes, sharded
from inheritune.runtime.device import device, make_repeatable
from inheritune.training.kernels import settled
from inheritune.training.loop import Loop, train_to_end
from inheritune.training.metrics import Metrics
from inheritune.training.schedule import rounded_up, steps_of


def train(recipe: str, out: str | None = None, progress: Progress | None = None, **overrides: Any) -> Trained:
    """Train a model from random weights by a recipe (name or path); continues where the same command stopped."""
    checked = _within_positions(load_recipe(TrainRecipe, recipe, overrides))
    for sources in (checked.data.train, checked.data.valid or []):
        corpora.require(sources)
    folder = Path(out or f"runs/{checked.name}")
    with processes.joined(checked.processes.timeout_seconds):
        checked = checked.model_copy(update={"training": settled(checked.training, device())})
        progress = progress if progress and processes.is_main() else Progress(quiet=True)
        with (
            holding(folder, checked), noting_how(folder, checked),
            closing(progress), left_if_used(folder), writing(folder),
        ):  # fmt: skip
            return _Pretraining(checked, folder, progress).run()


class _Pretraining:
    def __init__(self, recipe: TrainRecipe, folder: Path, progress: Progress):
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.metrics = Metrics(folder / METRICS, trackers(recipe.track, recipe.name, folder))

    def run(self) -> Trained:
        if ended := self._ended_before():
            self.progress.stage(
                f"This training has ended: validation loss {ended.val_loss:.4f}; the model is in {ended.model_dir}"
            )
            self.progress.note("Nothing is done again; whether its text is still the same is looked at")
        self.progress.stage(f"Text: {named_sources(self.recipe.data.train)}")
        tokenizer = self._tokenizer()
        make_repeatable(self.recipe.seed, self.recipe.training.repeatable)
        model = self._model()
        self.depth = anatomy(model).depth
        coding = Coding.of_model(tokenizer, self.recipe.data.begin, self.recipe.data.loss_on)
        self.begin = coding.begin
        train_tokens, valid_tokens = processes.main_first(
            lambda: tokens.prepare(self.recipe.data, coding, model.config.vocab_size, self.progress.now)
        )
        self.documents = validation(valid_tokens, self.recipe.data, self.begin)
        processes.on_main(
            lambda: self._bind({"data.train": train_tokens, "data.valid": valid_tokens}, tokenizer.backend_tokenizer)
        )
        if ended:
            return ended
        self.progress.note(f"{len(train_tokens):,} training tokens, {self.documents.tokens:,} for validation")
        training = self.recipe.training
        to_read = steps_of(training) * training.batch_tokens
        told = tokens_told(to_read, rounded_up(training, to_read))
        self.progress.stage(f"Training {parameter_count(model):,} parameters on {told}")
        tree, log = self.recipe.model_dump(mode="json"), self.folder / METRICS
        self.progress.view = live_view(lambda: train_status(self.folder, tree).model, log)
        position = train_to_end(model, self._round(train_tokens))
        trained = self._trained(model, position)
        state = {name: sharded.whole(tensor) for name, tensor in model.state_dict().items()}
        processes.on_main(lambda: self._save(model, state, tokenizer, trained))
        return trained

    def _ended_before(self) -> Trained | None:
        """The result of a training that ended here after as many tokens; None where anything is left to do."""
        place, training = self.folder / Trained.NAME, self.recipe.training
        if not all(part.exists() for part in (place, self.folder / "model", self.folder / MadeOf.NAME)):
            return None
        found = Trained.load(place)
        return found if found.tokens >= steps_of(training) * training.batch_tokens else None

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        if self.recipe.tokenizer:
            return load_tokenizer(self.recipe.tokenizer)
        place = self.folder / "tokenizer"

        def learn() -> None:
            if place.exists() and is_begun(self.folder):
                return  # a tokenizer in a folder that is not bound to its content yet may be of another text
            data, size = self.recipe.data, self.recipe.model.get("vocab_size", 4096)
            kept = (
                d.text
                for source in data.train
                for d in corpora.documents(source, data.field)
                if not tokens.on_validation_side(d.name, data.valid_share)
            )
            with whole_folder(place) as beside:
                train_tokenizer(kept, size).save_pretrained(beside)

        processes.on_main(learn)
        return load_tokenizer(str(place))

    def _bind(self, texts: dict[str, tokens.Tokens], tokenizer: Tokenizer) -> None:
        for caution in bind(self.folder, made_of(texts, tokenizer)):
            self.progress.note(f"Caution: {caution}")

    def _model(self) -> PreTrainedModel:
        with quiet():
            return AutoModelForCausalLM.from_config(_config_of(self.recipe.model)).to(device())

    def _round(self, train_tokens: tokens.Tokens) -> Loop:
        training, length = self.recipe.training, self.recipe.data.sequence_length
        batches = Batches(train_tokens, self.recipe.seed, training.batch_tokens // length, length, self.begin)
        checkpoints = self.folder / "checkpoints"
        return Loop(
            training=training, batches=batches, first_batch=0, checkpoints=checkpoints, observe=self._observe,
            evaluate=self._evaluate, resume=self._resume, say=self.progress.note,
 say_at_once=self.progress.at_once,
            matrix_rate=machine_rate(self.folder, training.precision, device()), parallel=self.recipe.processes.parallel,
            extensible=True,
        )  # fmt: skip

    def _resume(self, position: Position) -> None:
        self.metrics.keep(lambda row: step_of(row) <= position.step)
        self.metrics.require_steps(1, position.step)
        self.looked = bool(self.metrics.of(ValidationRow))
        if position.step:
            self.progress.note(f"Goes on after step {position.step:,} of {steps_of(self.recipe.training):,}")

    def _done(self, position: Position | StepDone) -> dict[str, float]:
        """The fields that every row begins with."""
        return {
            "round": 1, "depth": self.depth, "step": position.step, "tokens": position.tokens, "flops": position.flops,
        }  # fmt: skip

    def _observe(self, step: StepDone) -> None:
        self.metrics.add(step.row(self._done(step)))
        if step.skipped is not None:
            return
        loss = "" if self.looked else f", training loss {step.parts['loss']:.3f}"
        left = "" if step.first else pace(step.tokens_per_second, self.recipe.training.tokens - step.tokens)
        self.progress.now(f"step {step.step:,} of {steps_of(self.recipe.training):,}{loss}{left}")

    def _evaluate(self, model: PreTrainedModel, position: Position) -> float:
        precision, count = self.recipe.training.precision, self.progress.tally(LOOK)
        losses, seconds = timed(lambda: document_losses(model, self.documents, precision, count))
        loss, tokens_ = mean_loss(losses, self.documents), self.documents.tokens
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is not a finite number on the validation documents; the checkpoints before are kept in"
                f" {str(self.folder)!r}: start another run with a lower training.peak_lr"
            )
        self.metrics.add(
            ValidationRow(
                **self._done(position), val_loss=loss,
                end=steps_of(self.recipe.training), training_seconds=position.seconds,
                cost=Spent(tokens=tokens_, flops=self.documents.flops(model), seconds=seconds),
            )
        )  # fmt: skip
        self.looked = True  # from now on the view has the validation loss, and no training loss stands beside it
        self.progress.note(f"step {position.step:,}, {position.tokens:,} tokens: validation loss {loss:.4f}")
        return loss

    def _trained(self, model: PreTrainedModel, position: Position) -> Trained:
        self.metrics.keep(lambda row: not (isinstance(row, ValidationRow) and row.step == position.step))
        return Trained(
            val_loss=self._evaluate(model, position), parameters=parameter_count(model), tokens=position.tokens,
            flops=position.flops, seconds=round(position.seconds, 1),
            tokens_per_parameter=position.tokens / parameter_count(model), model_dir=str(self.folder / "model"),
        )  # fmt: skip

    def _save(
        self, model: PreTrainedModel, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast, trained: Trained
    ) -> None:
        place = self.folder / "model"
        with whole_folder(place) as beside:
            dtype = DTYPES.get(self.recipe.model_dtype)
            write_model(model, beside, source=None, tokenizer=tokenizer, dtype=dtype, state=state)
            Trained(**trained.model_dump(exclude={"model_dir"})).save(beside / Trained.BESIDE_MODEL)
        trained.save(self.folder / Trained.NAME)
        self.progress.stage(f"Validation loss {trained.val_loss:.4f} nats per token; the model is in {place}")


def _within_positions(recipe: TrainRecipe) -> TrainRecipe:
    """Return the recipe with a sequence length that the model's positions allow. Raises RecipeError for a longer one that is set by hand."""
    positions = positions_of(_config_of(recipe.model))
    recipe = load_for_positions(recipe, positions)
    if positions and (length := recipe.data.sequence_length) > positions:
        raise RecipeError(
            f"data.sequence_length is {length} and the model has {positions} positions: make it at most that"
        )
    return recipe


def _config_of(fields: dict[str, Any]) -> PretrainedConfig:
    try:
        with quiet():
            return AutoConfig.for_model(**fields)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"model: transformers {transformers.__version__} builds no config from it: {str(error).splitlines()[0]}"
        ) from None
