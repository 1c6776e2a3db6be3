"""A comparison's recipe as data, checked as a run's is."""

from typing import Annotated, Literal

from pydantic import Field

from inheritune.config import Diagnosis, Match, _Whole


class CompareRecipe(_Whole):
    """Every method on the same batches and documents, from one reference to one depth."""

    reference: str = Field(
        description="The pretrained model: a Hugging Face folder, a `.gguf` file, a hub id, or `bundled:laptop`."
    )
    revision: str | None = Field(None, description="Revision of a hub id.")
    trust_remote_code: bool = Field(False, description="Run Python files that the reference brings (docs/run.md).")
    methods: list[str] = Field(
        min_length=1,
        description="Methods by name, `[all]` for every one; differences are from the first. May be extended.",
    )
    depth: int | None = Field(None, ge=1, description="The targets' depth; without it, two thirds of the reference's.")
    seeds: int = Field(3, ge=1, description="How many seeds, from `seed` on. May be extended.")
    learning_rates: list[Annotated[float, Field(gt=0)]] = Field(
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
        """The peak rates that are tried."""
        return self.learning_rates or [self.training.peak_lr]

    def all_seeds(self) -> list[int]:
        """The seeds; the learning rate is chosen on the first."""
        return list(range(self.seed, self.seed + self.seeds))
