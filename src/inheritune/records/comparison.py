"""What a comparison found, as data: the models behind `compare.json`.

`python -m inheritune.records.comparison` prints the JSON schema that stands in `schemas/compare.schema.json`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from inheritune.disk.files import read_whole, write_text
from inheritune.errors import InputError
from inheritune.records import entry
from inheritune.records.entry import Amount, Count, Entry, json_text
from inheritune.records.gap import GapResult


class Interval(Entry):
    """A mean over seeds with its two-sided interval by Student's t, or over documents where there is one seed."""

    mean: float
    low: float
    high: float
    units: str


class Point(Entry):
    """A validation while training, of the first seed: tokens and FLOPs so far, all phases, and the loss."""

    tokens: Count
    flops: Amount
    val_loss: float


class Cost(Entry):
    """What a method needs: its own training, what it does before, and both together."""

    tokens: Amount
    training_flops: Amount
    prepared_flops: Amount
    total_flops: Amount
    seconds: Amount


class Row(Entry):
    """One method: means over its seeds. Losses and gaps in nats per token; `difference` is from the first method."""

    method: str
    says: str
    needs_reference: bool
    depth: Count
    parameters: Count
    peak_lr: float
    seeds: list[int]
    cost: Cost
    val_loss: float
    spread: Amount | None = Field(description="Standard deviation over seeds.")
    gap: GapResult = Field(description="From the reference, over documents, losses averaged over seeds.")
    difference: Interval | None
    tokens_to_random: Amount | None = Field(description="Tokens until random initialisation's final loss is reached.")
    flops_to_random: Amount | None = Field(description="All FLOPs until then.")
    tokens_to_reference: Amount | None = Field(description="Tokens until the reference's loss is reached.")
    lazy_layers: Count | None = Field(description="Layers of MaxRank 1 in the first seed's final model.")
    max_ranks: list[float | None]
    curve: list[Point]
    tried: dict[str, float | None] = Field(
        description="Final loss at each peak rate on the first seed; none: it failed."
    )


def at_most(method: str, tokens_to_random: float | None, validations: Sequence[float]) -> str:
    """Return the mark `≤ ` for tokens and FLOPs to random's loss where a method's first validation lay below that loss already.

    `validations` are the tokens at which the method was validated.
    """
    return "≤ " if method != "random" and tokens_to_random in validations[:1] else ""


class Left(Entry):
    """A method or a cell without a result, and why."""

    name: str
    reason: str


class Comparison(Entry):
    """A whole comparison, as written to `compare.json`."""

    recipe: str
    reference: str
    reference_loss: float
    reference_depth: Count
    reference_tokens: Count | None = Field(description="What the reference was trained on, where that is known.")
    reference_flops: Amount | None = Field(description="Paid by whoever has to train the reference first.")
    reference_ranks: list[float | None]
    reference_lazy: Count
    depth: Count
    budget: str
    tokens: Count
    margin: Amount
    confidence: float
    documents: Count
    rows: list[Row]
    missing: list[Left]

    def save(self, path: Path) -> None:
        """Write as JSON; a reader sees the old file or the new one."""
        write_text(path, json_text(self) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `compare.json`. Raises InputError if it is missing or not a comparison."""
        try:
            return cls.model_validate_json(read_whole(path))
        except (OSError, ValidationError) as error:
            raise InputError(f"{path} is no comparison: {str(error).splitlines()[0]}.") from error


def schema_text() -> str:
    """The JSON schema of `compare.json`, as it stands in the package."""
    return entry.schema_text(Comparison)


if __name__ == "__main__":
    print(schema_text(), end="")
