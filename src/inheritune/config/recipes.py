"""The three kinds of recipe: a run, a training without a reference, a comparison."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, model_validator

from inheritune.config.sections import (
    MOST_LAYERS,
    MOST_RATE,
    Choice,
    Data,
    Diagnosis,
    Growth,
    Limits,
    Match,
    Objective,
    Processes,
    RunMatch,
    Section,
    Training,
)

# Keys that may change when a run is continued: they decide where it ends, and what is reported and kept of it, but no step of it.
MAY_CHANGE = (
    "limits", "controls", "methods", "seeds", "learning_rates", "processes", "track", "training.evaluate_every", "training.checkpoint_every",
    "training.checkpoints_kept", "training.compile", "training.repeatable", "diagnosis.minutes", "choice.minutes",
)  # fmt: skip


class _Whole(Section):
    name: str = Field(
        pattern=r"^\w[\w.+-]{0,99}$",
        description="Name of the recipe, and of its default run folder: letters, digits and `.+-_`.",
    )
    seed: int = Field(0, ge=0, lt=1 << 63, description="Seed of the order of batches and of fresh weights.")
    data: Data
    training: Training
    model_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="The dtype that the model is written in; `auto`: the reference's own (bfloat16 for GGUF), float32 without one.",
    )
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
    trust_remote_code: bool = Field(False, description="Run Python files that the reference brings: read them first.")
    diagnosis: Diagnosis = Diagnosis()
    choice: Choice = Choice()
    objective: Objective = Objective()
    growth: Growth = Growth()
    match: RunMatch = RunMatch()
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
        if self.growth.goal == "fit" and self.choice.blocks:
            raise ValueError("growth.goal fit takes its depth from growth.target: leave choice.blocks out")
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


class CompareRecipe(_Whole):
    """A comparison: every method on the same batches and documents, from one reference to one depth."""

    reference: str = Field(
        description="The pretrained model: a Hugging Face folder, a `.gguf` file, a hub id, or `bundled:laptop`."
    )
    revision: str | None = Field(None, description="Revision of a hub id.")
    trust_remote_code: bool = Field(False, description="Run Python files that the reference brings: read them first.")
    methods: list[str] = Field(
        min_length=1,
        description="Methods by name, `[all]` for every one; differences are from the first. May be extended.",
    )
    depth: int | None = Field(
        None, ge=1, le=MOST_LAYERS, description="The targets' depth; without it, two thirds of the reference's."
    )
    seeds: int = Field(3, ge=1, le=1000, description="How many seeds, from `seed` on. May be extended.")
    learning_rates: list[Annotated[float, Field(gt=0, le=MOST_RATE)]] = Field(
        [], description="Peak rates tried for each method on the first seed; without them, `training.peak_lr` alone."
    )
    budget: Literal["tokens", "flops", "total-flops"] = Field(
        "tokens",
        description="In what methods are equal: tokens, training FLOPs, or these with all that a method needs before.",
    )
    keep_models: bool = Field(False, description="Keep each cell's final model as a Hugging Face folder.")
    diagnosis: Diagnosis = Diagnosis()
    match: Match = Match()

    def rates(self) -> list[float]:
        """The peak learning rates to try."""
        return self.learning_rates or [self.training.peak_lr]

    def all_seeds(self) -> list[int]:
        """The seeds; the learning rate is chosen on the first."""
        return list(range(self.seed, self.seed + self.seeds))


# Each kind of recipe by the command that carries it out.
RECIPES: dict[str, type[_Whole]] = {"run": RunRecipe, "train": TrainRecipe, "compare": CompareRecipe}
