"""What an evaluation found, as data: the object that `inheritune evaluate --json` prints.

What was not asked for is left out of the object.
"""

from typing import Literal

from pydantic import ConfigDict, Field

from inheritune.evaluation.by_position import Band
from inheritune.evaluation.generation import Use
from inheritune.evaluation.measure import Against
from inheritune.evaluation.tasks import Difference, Score
from inheritune.records.entry import Count, Depth, Entry
from inheritune.records.guard import Guard
from inheritune.records.token_by_token import Agreement, Estimate, GoingOn


class _Measured(Entry):
    """A record whose losses may be infinite or NaN, since that may be what was measured."""

    model_config = ConfigDict(allow_inf_nan=True)


class TextMeasured(_Measured):
    """What the models were measured on, and what counts as a match."""

    source: str
    documents: Count
    bytes: Count
    window_tokens: Count
    margin: float
    confidence: float


class RunMeasured(_Measured):
    """The run whose held-out documents were measured, which of their tokens the loss covers, and what counts as a match."""

    run: str
    documents: Count
    tokens: Count
    loss_on: str
    precision: str
    margin: float
    confidence: float


class TextLoss(_Measured):
    """A model's loss on the text in nats per token, in other units, and by position (bits and positions not for a run's documents)."""

    val_loss: float
    perplexity: float
    bits_per_byte: float | None = None
    tokens: Count
    by_position: list[Band] = Field([])


class EvaluatedModel(_Measured):
    """One model: its size, its loss, its scores on tasks and what using it costs."""

    model: str
    depth: Depth
    parameters: Count
    text: TextLoss
    tasks: list[Score] | None = None
    use: Use | None = None


class Rival(_Measured):
    """A model packed in fewer bits: its size, its loss, its gap to the reference as it was, and its verdict on the guard set.

    `memory_bytes` are those of the weights and of a window's keys and values in float16; `use` is measured in llama.cpp.
    """

    side: Literal["reference", "model"]
    model: str
    bits: str
    disk_bytes: Count
    memory_bytes: Count
    text: TextLoss
    gap: Against
    guard: Guard | None = None
    use: Use | None = None


class UseMeasured(_Measured):
    """How use was measured: tokens of the prompt, new tokens, turns taken by the models, dtype."""

    prompt: Count
    new: Count
    turns: Count
    dtype: str


class Evaluation(_Measured):
    """The model, and its reference after it where one is named, on the same documents and tasks."""

    data: TextMeasured | RunMeasured
    models: list[EvaluatedModel]
    gap: Against | None = None
    gap_by_position: list[Estimate | None] | None = Field(
        None, description="The gap in each band of `by_position`; none: fewer than two documents reach it."
    )
    agreement: Agreement | None = None
    going_on: GoingOn | None = None
    guard: Guard | None = None
    task_differences: list[Difference] | None = None
    generation: UseMeasured | None = None
    rivals: list[Rival] | None = None
    notes: list[str] = Field(
        [],
        description="What was asked for and could not be measured, and what a reader of the intervals should know, a sentence each.",
    )
