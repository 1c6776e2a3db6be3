"""The rows of `metrics.jsonl`: one model for each kind.

`step`, `tokens` and `flops` count from the run's first step, over all rounds, and so does `end`. Losses are nats per token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from inheritune.evidence.gap import Gap
from inheritune.records.entry import Amount, Count, Depth, Entry, Spent

METRICS = "metrics.jsonl"


class _Done(Entry):
    """How far the run is: its round (from 1), the target's depth, and what is done in all."""

    round: Count
    depth: Depth
    step: Count
    tokens: Count
    flops: Amount


class StepRow(_Done):
    """An optimizer step. Where the objective has several terms, each has a loss of its own under its name.

    `mfu`: the share of the machine's matrix rate that was used; `memory`: bytes, the most so far.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    kind: Literal["step"] = "step"
    loss: float
    lr: Amount
    grad_norm: Amount
    tokens_per_second: Count
    mfu: float | None
    memory: Count | None

    @property
    def text_loss(self) -> float:
        """The cross-entropy part of the loss, which can be compared with the reference's loss."""
        return (self.__pydantic_extra__ or {}).get("cross_entropy", self.loss)


class SkippedRow(_Done):
    """A step whose loss or gradient was not finite, and that changed nothing; `skipped` says what was seen."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | None]

    kind: Literal["skipped"] = "skipped"
    skipped: str


@dataclass(frozen=True, kw_only=True)
class StepDone:
    """An optimizer step as the loop reports it: `step`, `tokens` and `flops` count from the round's first step.

    `parts` has `loss` and, where the objective has several terms, each term's own. `skipped` says why a step changed nothing. The
    `first` step of a process may have waited for compilation, so that its pace says nothing about later ones.
    """

    step: int
    tokens: int
    flops: float
    parts: dict[str, float]
    lr: float
    grad_norm: float
    tokens_per_second: int
    mfu: float | None
    memory: int | None
    skipped: str | None = None
    first: bool = False

    @property
    def text_loss(self) -> float:
        """The cross-entropy part of the loss, which can be compared with the reference's loss."""
        return self.parts.get("cross_entropy", self.parts["loss"])

    def row(self, done: Mapping[str, float]) -> StepRow | SkippedRow:
        """Return the step's row; `done` says how far the run is after it."""
        values = {
            **self.parts, "lr": self.lr, "grad_norm": self.grad_norm,
            "tokens_per_second": self.tokens_per_second, "mfu": self.mfu, "memory": self.memory,
        }  # fmt: skip
        if self.skipped is None:
            return StepRow(**values, **done)
        finite = {name: value if value is not None and isfinite(value) else None for name, value in values.items()}
        return SkippedRow(**finite, **done, skipped=self.skipped)


class ValidationRow(_Done):
    """A comparison on the validation documents. `end`: the step at which the round ends, as it is scheduled now.

    `training_seconds` are the round's so far. A training without a reference has neither `reference_loss` nor `gap`.
    """

    kind: Literal["validation"] = "validation"
    val_loss: float
    reference_loss: float | None = None
    gap: Gap | None = None
    end: Count
    training_seconds: Amount
    cost: Spent


class WatchRow(_Done):
    """The attention of a model as it trains, one value per layer; None where a layer has no softmax attention.

    `lazy_heads` names the heads whose mean k* is at most 1.5, by layer.
    """

    kind: Literal["watch"] = "watch"
    max_rank: list[float | None]
    mass: list[float | None]
    lazy_share: list[float | None]
    lazy: list[Count]
    lazy_heads: dict[Count, list[Count]] = Field(default_factory=dict)
    cost: Spent


class GrowthRow(Entry):
    """A growth step: depths and losses on both sides of it, and what the learning rate does there."""

    model_config = ConfigDict(populate_by_name=True)

    kind: Literal["growth"] = "growth"
    round: Count
    step: Count
    tokens: Count
    flops: Amount
    before: Depth = Field(alias="from")
    after: Depth = Field(alias="to")
    new_blocks: str
    loss_before: float
    loss_after: float
    lr_before: Amount
    lr: Amount
    cost: Spent


class DecisionRow(Entry):
    """What was decided after a round, or within it, and why, in words."""

    kind: Literal["decision"] = "decision"
    round: Count
    action: str
    reason: str


MetricsRow = Annotated[
    StepRow | SkippedRow | ValidationRow | WatchRow | GrowthRow | DecisionRow, Field(discriminator="kind")
]
ROW: TypeAdapter[MetricsRow] = TypeAdapter(MetricsRow)


def step_of(row: MetricsRow) -> int:
    """The step of the run that a row is about; 0 for a decision, which is about none."""
    return 0 if isinstance(row, DecisionRow) else row.step
