"""`inheritune train`: the same loop without a reference, from random weights to a model folder. Makes the bundled reference."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import TrainRecipe
from inheritune.config.sections import told
from inheritune.data import corpora, tokens
from inheritune.data.batches import Batches
from inheritune.data.coding import Coding
from inheritune.data.vocabulary import train_tokenizer
from inheritune.decoder.costs import parameter_count
from inheritune.disk.files import write_text, writing
from inheritune.disk.folders import whole_folder
from inheritune.errors import RecipeError
from inheritune.evaluation.losses import document_losses, mean_loss, validation
from inheritune.models.begin import begin_of
from inheritune.models.export import write_model
from inheritune.models.load import DTYPES
from inheritune.models.reference import load_tokenizer
from inheritune.progress import Progress, clock
from inheritune.runs.folder import close_folder, left_if_used, once, open_folder
from inheritune.runs.made_of import bind, is_begun, made_of
from inheritune.runs.trackers import trackers
from inheritune.runtime import gauge, processes, sharded
from inheritune.runtime.device import device, make_repeatable
from inheritune.runtime.memory import keep_freed_memory
from inheritune.training.checkpoint import Position
from inheritune.training.loop import Round
from inheritune.training.loop import train as train_round
from inheritune.training.metrics import Metrics
from inheritune.training.schedule import steps_of


@dataclass(frozen=True)
class Trained:
    """What a training run gave: the loss on its validation documents, the cost, and where the model is."""

    val_loss: float
    parameters: int
    tokens: int
    flops: float
    seconds: float
    tokens_per_parameter: float
    model_dir: str


def train(recipe: str, out: str | None = None, progress: Progress | None = None, **overrides: Any) -> Trained:
    """Train a model from random weights by a recipe (name or path); continues where the same command stopped."""
    checked = load_recipe(TrainRecipe, recipe, overrides)
    for sources in (checked.data.train, checked.data.valid or []):
        corpora.require(sources)
    folder = Path(out or f"runs/{checked.name}")
    with processes.joined(checked.processes.timeout_seconds):
        progress = progress if progress and processes.is_main() else Progress(quiet=True)
        processes.on_main(lambda: open_folder(folder, checked))
        try:
            with left_if_used(folder), writing(folder):
                return _Pretraining(checked, folder, progress).run()
        finally:
            progress.close()
            close_folder(folder)


class _Pretraining:
    def __init__(self, recipe: TrainRecipe, folder: Path, progress: Progress):
        self.recipe, self.folder, self.progress = recipe, folder, progress
        self.metrics = Metrics(folder / "metrics.jsonl", trackers(recipe.track, recipe.name, folder))

    def run(self) -> Trained:
        self.progress.stage(f"Text: {told(self.recipe.data.train)}")
        tokenizer = self._tokenizer()
        keep_freed_memory()
        make_repeatable(self.recipe.seed)
        model = self._model()
        self.begin = begin_of(tokenizer, self.recipe.data.begin)
        coding = Coding.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id, self.begin)
        train_tokens, valid_tokens = processes.main_first(
            lambda: tokens.prepare(self.recipe.data, coding, model.config.vocab_size, self.progress.now)
        )
        self.documents = validation(valid_tokens, self.recipe.data, self.begin)
        processes.on_main(
            lambda: self._bind({"data.train": train_tokens, "data.valid": valid_tokens}, tokenizer.backend_tokenizer)
        )
        self.progress.note(f"{len(train_tokens):,} training tokens, {self.documents.tokens:,} for validation")
        self.progress.stage(f"Training {parameter_count(model):,} parameters on {self.recipe.training.tokens:,} tokens")
        position = train_round(model, self._round(train_tokens))
        trained = self._trained(model, position)
        state = {name: sharded.whole(tensor) for name, tensor in model.state_dict().items()}
        processes.on_main(lambda: self._save(model, state, tokenizer, trained))
        return trained

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        if self.recipe.tokenizer:
            return load_tokenizer(self.recipe.tokenizer)
        place = self.folder / "tokenizer"

        def learn() -> None:
            if place.exists() and is_begun(self.folder):
                return  # what no content is bound to yet may be of another text
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
        return AutoModelForCausalLM.from_config(_config_of(self.recipe.model)).to(device())

    def _round(self, train_tokens: tokens.Tokens) -> Round:
        training, length = self.recipe.training, self.recipe.data.sequence_length
        batches = Batches(train_tokens, self.recipe.seed, training.batch_tokens // length, length, self.begin)
        checkpoints = self.folder / "checkpoints"
        return Round(
            training, batches, 0, checkpoints, self._observe, self._evaluate, self._resume, self.progress.note,
            matrix_rate=self._matrix_rate(), parallel=self.recipe.processes.parallel, extensible=True,
        )  # fmt: skip

    def _matrix_rate(self) -> float:
        precision = self.recipe.training.precision
        return once(self.folder / "machine.json", lambda: {"matrix_rate": gauge.matrix_rate(precision)})["matrix_rate"]

    def _resume(self, position: Position) -> None:
        self.metrics.keep(lambda row: row["step"] <= position.step)

    def _observe(self, row: dict[str, Any]) -> None:
        self.metrics.add({"kind": "skipped" if "skipped" in row else "step", **row})
        if "skipped" in row:
            return
        left = (self.recipe.training.tokens - row["tokens"]) / max(1, row["tokens_per_second"])
        self.progress.now(
            f"step {row['step']:,} of {steps_of(self.recipe.training):,}  loss {row['loss']:.3f}"
            f"  {row['tokens_per_second']:,} tokens/s  {clock(left)} left"
        )

    def _evaluate(self, model: PreTrainedModel, position: Position) -> float:
        loss = mean_loss(document_losses(model, self.documents, self.recipe.training.precision), self.documents)
        self.metrics.add({"kind": "validation", "step": position.step, "tokens": position.tokens, "val_loss": loss})
        self.progress.note(f"step {position.step:,}, {position.tokens:,} tokens: validation loss {loss:.4f}")
        return loss

    def _trained(self, model: PreTrainedModel, position: Position) -> Trained:
        return Trained(
            self._evaluate(model, position), parameter_count(model), position.tokens, position.flops,
            round(position.seconds, 1), position.tokens / parameter_count(model), str(self.folder / "model"),
        )  # fmt: skip

    def _save(
        self, model: PreTrainedModel, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerFast, trained: Trained
    ) -> None:
        place = self.folder / "model"
        with whole_folder(place) as beside:
            dtype = DTYPES.get(self.recipe.model_dtype)
            write_model(model, beside, source=None, tokenizer=tokenizer, dtype=dtype, state=state)
            write_text(beside / "training.json", json.dumps(_without(asdict(trained), "model_dir"), indent=1))
        write_text(self.folder / "result.json", json.dumps(asdict(trained), indent=1))
        self.progress.stage(f"Validation loss {trained.val_loss:.4f} nats per token; the model is in {place}")


def _config_of(fields: dict[str, Any]) -> PretrainedConfig:
    try:
        return AutoConfig.for_model(**fields)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"model: transformers {transformers.__version__} builds no config from it: {str(error).splitlines()[0]}"
        ) from None


def _without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != key}
