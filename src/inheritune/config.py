"""A run as data: recipes are YAML, checked whole before anything is loaded; unknown keys name the nearest valid one."""

import difflib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from inheritune.errors import RecipeError
from inheritune.explain import explain, fields, refuse_other_kind
from inheritune.objective import Objective
from inheritune.section import Section as _Section
from inheritune.strict_yaml import read_file, read_yaml, value_of

# What may change when a run is continued: where it ends, and what is told and kept of it, not one step of it.
MAY_CHANGE = (
    "limits", "controls", "methods", "seeds", "learning_rates", "processes", "track", "training.evaluate_every", "training.checkpoint_every",
    "training.checkpoints_kept",
)  # fmt: skip


class Source(_Section):
    """One source of text: what it is, and its share where there are several."""

    source: str = Field(
        min_length=1,
        description="A file, a folder, a glob, a folder of `inheritune prepare`, `hf:ID` of the hub, or `bundled:docstrings`.",
    )
    weight: float = Field(
        1.0, gt=0, allow_inf_nan=False, description="Its share of the training tokens, beside the others' weights."
    )
    field: str | None = Field(None, description="The field of a row that holds the text; without it `data.field`.")
    name: str | None = Field(None, description="Which configuration of a hub dataset.")
    split: str | None = Field(None, description="Which split of a dataset; without it `train`.")
    revision: str | None = Field(None, description="Revision of a hub dataset.")


def _as_list(value: Any) -> Any:
    """`corpus.jsonl` is short for `[{source: corpus.jsonl}]`."""
    listed = [value] if isinstance(value, str | dict) else value
    if not isinstance(listed, list):
        return listed
    return [{"source": item} if isinstance(item, str) else item for item in listed]


_AsList = BeforeValidator(_as_list)
Sources = Annotated[list[Source], _AsList, Field(min_length=1)]


def told(sources: list[Source]) -> str:
    """Sources as a sentence names them."""
    return ", ".join(repr(source.source) for source in sources)


class Data(_Section):
    """Text in: where it is, and how it becomes sequences."""

    train: Sources = Field(description="Training text: one source, or a list of them with `weight` (docs/data.md).")
    valid: Annotated[list[Source] | None, _AsList] = Field(
        None, min_length=1, description="Validation text; without it a share of `train`'s documents is held out."
    )
    outside: dict[str, Sources] = Field(
        {}, description="Further texts by name, on which target and reference are compared too, beside the verdict."
    )
    outside_tokens: int = Field(65_536, ge=2, description="Most tokens read of each outside text.")
    field: str = Field("text", description="The field of a row (JSONL, Parquet, Arrow) that holds the text.")
    valid_share: float = Field(0.05, gt=0, lt=1, description="Share of documents held out where `valid` is absent.")
    valid_documents: int = Field(
        400, ge=2, description="Most validation documents used, of those that have at least 2 tokens."
    )
    valid_tokens_per_document: int = Field(
        1024, ge=2, description="Tokens read of each validation document, from its start."
    )
    sequence_length: int = Field(1024, ge=2, description="Tokens in one training sequence.")


class Training(_Section):
    """How weights are trained: the same loop for references, targets and controls."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`adamw`, or `muon` for the blocks' matrices with AdamW for the rest."
    )
    peak_lr: float = Field(3e-4, gt=0, description="Peak learning rate.")
    final_lr: float = Field(
        0.0, ge=0, le=1, description="Learning rate at the end of the decay, as a share of the peak."
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = Field(
        "cosine", description="Shape of the decay after warm-up."
    )
    decay_share: float = Field(0.2, gt=0, le=1, description="Share of a round that a `wsd` schedule spends decaying.")
    warmup_tokens: int = Field(0, ge=0, description="Tokens of linear warm-up at the start of each round.")
    tokens: int = Field(
        gt=0,
        description="Training tokens, rounded up to whole steps: of the whole run for `train`, of each round for `run`.",
    )
    batch_tokens: int = Field(16_384, gt=0, description="Tokens in one optimizer step.")
    micro_batch_size: int = Field(8, ge=1, description="Sequences in one forward and backward pass.")
    weight_decay: float = Field(0.1, ge=0, description="Decoupled weight decay of the 2-D weights inside the blocks.")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW's first moment.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW's second moment.")
    clip: float = Field(1.0, gt=0, description="Largest norm of the whole gradient.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="Precision of forward and backward; weights and optimizer stay fp32."
    )
    evaluate_every: int = Field(100, ge=1, description="Steps between evaluations on the validation documents.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints.")
    checkpoints_kept: int = Field(2, ge=1, description="How many of a round's last checkpoints are kept.")
    checkpoint_activations: bool = Field(
        False, description="Compute a block's inside again in the backward pass: less memory, a third more time."
    )
    max_skipped: int = Field(
        3, ge=0, description="Steps in a row whose loss or gradient may be no finite number; each is skipped and said."
    )

    @model_validator(mode="after")
    def _consistent(self) -> "Training":
        if self.warmup_tokens >= self.tokens:
            raise ValueError(f"warmup_tokens ({self.warmup_tokens:,}) must be below tokens ({self.tokens:,})")
        if self.schedule == "wsd" and self.warmup_tokens + self.decay_share * self.tokens > self.tokens:
            raise ValueError(
                f"warmup_tokens ({self.warmup_tokens:,}) and a decay_share of {self.decay_share:g} are longer than tokens"
                f" ({self.tokens:,})"
            )
        if self.batch_tokens > self.tokens:
            raise ValueError(f"batch_tokens ({self.batch_tokens:,}) must not exceed tokens ({self.tokens:,})")
        return self


class Diagnosis(_Section):
    """How the reference is measured before blocks are chosen."""

    sequences: int = Field(16, ge=2, description="Sequences whose attention maps are measured.")
    length: int = Field(100, ge=8, description="Tokens of each (the paper uses 100).")
    threshold: float = Field(0.9, gt=0, lt=1, description="Share of squared singular values that rank k* must hold.")
    watch_every: int = Field(
        0, ge=0, description="Steps between the same measurements of the target while it trains; 0: none."
    )


class Choice(_Section):
    """Which blocks the target starts from."""

    method: Literal["first", "lazy", "influence", "angular", "greedy"] = Field(
        "greedy", description="The criterion that orders the blocks."
    )
    sequences: int = Field(12, ge=1, description="Sequences that a measured criterion reads.")
    blocks: str | None = Field(
        None,
        description="The target's blocks by hand, as `0-11` or `0,1,2,9-14`: overrides `method` for the start.",
    )
    heal: bool = Field(True, description="Repair the cut in closed form before training.")
    heal_tokens: int = Field(32_768, ge=256, description="Tokens that the repair reads.")


class Growth(_Section):
    """From which depth to which, in which steps."""

    start: int | None = Field(None, ge=1, description="Depth to start at, instead of one chosen by what cuts lose.")
    add: int = Field(2, ge=1, description="Blocks added after a round that did not match (the paper adds 2).")
    new_blocks: Literal["inherited", "copied", "identity", "random"] = Field(
        "inherited",
        description="How added blocks start: from the reference, from the target's nearest, adding nothing, or random.",
    )
    max_depth: int | None = Field(
        None, ge=1, description="Deepest target tried; without it, one block less than the reference."
    )
    literal: bool = Field(
        False,
        description="The paper's loop: rounds are whole, and each is cut out of the reference again; else a round ends as"
        " soon as it is forecast to fail, and the trained target grows.",
    )


class Match(_Section):
    """What counts as a match, declared before the run."""

    margin: float = Field(0.01, gt=0, description="Largest gap, in nats per token, that still counts as a match.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Confidence of the two-sided interval of the gap.")


class Limits(_Section):
    """Where a run ends though nothing matched. These may change when a run is continued."""

    max_rounds: int = Field(8, ge=1, description="Most rounds trained.")
    max_tokens: int | None = Field(None, gt=0, description="Most training tokens, over all rounds.")
    max_flops: float | None = Field(None, gt=0, description="Most training FLOPs, over all rounds.")
    max_seconds: float | None = Field(None, gt=0, description="Most seconds of training, over all rounds.")


class Processes(_Section):
    """How the processes of a torchrun launch work together. These may change when a run is continued."""

    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp", description="`ddp`: each process holds the model; `fsdp`: weights and optimizer are spread over them."
    )
    timeout_seconds: float = Field(
        600, gt=0, description="Seconds that processes wait for one that is lost before the run ends and names it."
    )


class _Whole(_Section):
    name: str = Field(
        pattern=r"^\w[\w.+-]{0,99}$",
        description="Name of the recipe, and of its default run folder: letters, digits and `.+-_`.",
    )
    seed: int = Field(0, ge=0, description="Seed of the order of batches and of fresh weights.")
    data: Data
    training: Training
    processes: Processes = Processes()
    track: list[Literal["tensorboard", "trackio", "wandb"]] = Field(
        [], description="Trackers that are told what `metrics.jsonl` is told. May change when a run is continued."
    )

    @model_validator(mode="after")
    def _whole_sequences(self) -> "_Whole":
        batch, length = self.training.batch_tokens, self.data.sequence_length
        if batch % length:
            raise ValueError(
                f"training.batch_tokens ({batch:,}) must be a multiple of data.sequence_length ({length:,})"
            )
        if self.training.micro_batch_size * length > batch:
            raise ValueError(
                f"training.micro_batch_size ({self.training.micro_batch_size}) sequences of {length:,} tokens are more than"
                f" training.batch_tokens ({batch:,})"
            )
        return self


class RunRecipe(_Whole):
    """A whole run: measure, choose, inherit, train, grow, prove, save."""

    reference: str = Field(
        description="The pretrained model: a Hugging Face folder, a `.gguf` file, a hub id, or `bundled:laptop`."
    )
    revision: str | None = Field(None, description="Revision of a hub id.")
    trust_remote_code: bool = Field(False, description="Run Python files that the reference brings (docs/run.md).")
    diagnosis: Diagnosis = Diagnosis()
    choice: Choice = Choice()
    objective: Objective = Objective()
    growth: Growth = Growth()
    match: Match = Match()
    limits: Limits = Limits()
    controls: bool = Field(
        False,
        description="After the run, also train the controls: random initialisation, and the reference trained on.",
    )

    @model_validator(mode="after")
    def _one_round_fits(self) -> "RunRecipe":
        most, tokens = self.limits.max_tokens, self.training.tokens
        if most is not None and most < tokens:
            raise ValueError(f"limits.max_tokens ({most:,}) allows no round, which takes training.tokens ({tokens:,})")
        return self


class TrainRecipe(_Whole):
    """One training run without a reference."""

    model: dict[str, Any] = Field(
        description="A Hugging Face config with its `model_type`; trained from random initialisation."
    )
    tokenizer: str | None = Field(
        None,
        description="A tokenizer's folder or hub id; without it a byte-level BPE is trained on `data.train`.",
    )


Recipe = TypeVar("Recipe", bound=_Whole)


def recipe_names() -> list[str]:
    """Names of the recipes in the package."""
    return sorted(
        path.name[:-5] for path in resources.files("inheritune.recipes").iterdir() if path.name.endswith(".yaml")
    )


def load_recipe(kind: type[Recipe], name_or_path: str, overrides: dict[str, Any]) -> Recipe:
    """A recipe by name or path, with dotted `overrides` applied; RecipeError names what is wrong and what would be right."""
    tree = read_yaml(_find(name_or_path), f"the recipe {name_or_path!r}")
    for key, value in overrides.items():
        _set(tree, key.split("."), value, key)
    refuse_other_kind(kind, tree, name_or_path)
    return check(kind, tree)


def check(kind: type[Recipe], tree: dict[str, Any]) -> Recipe:
    """`tree` as a checked recipe; RecipeError names the first wrong key or value."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        raise RecipeError(explain(error, [*fields(kind), *kind.model_fields])) from None


def to_yaml(recipe: BaseModel) -> str:
    """The resolved recipe, every field written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_setting(setting: str) -> tuple[str, Any]:
    """`key=value` from the command line, its value read as YAML."""
    key, equals, value = setting.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {setting!r} is not key=value, as in --set training.peak_lr=1e-3")
    try:
        return key, value_of(value)
    except ValueError as error:
        raise RecipeError(f"--set {key}: {value[:100]!r} is not a YAML value: {error}") from None


def _find(name_or_path: str) -> str:
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and name_or_path in recipe_names():
        return (resources.files("inheritune.recipes") / f"{name_or_path}.yaml").read_text(encoding="utf-8")
    if not path.is_file():
        near = difflib.get_close_matches(name_or_path, recipe_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"recipes in the package: {', '.join(recipe_names())}"
        raise RecipeError(f"there is no recipe {name_or_path!r}: {hint}")
    return read_file(path)


def _set(tree: dict[str, Any], keys: list[str], value: Any, whole: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise RecipeError(f"--set {whole}: {key!r} is a value and holds no keys")
    tree[keys[-1]] = value
