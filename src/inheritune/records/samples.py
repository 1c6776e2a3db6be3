"""The record of held-out documents on which two models are shown beside each other."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from inheritune.records.entry import Amount, Count, Entry, JsonFile, Spent

SamplePlace = Literal["best", "middle", "worst"]


class Sample(Entry):
    """The beginning of a document, by its tokens, and how both models go on from a part of it, the likeliest token each time.

    `gap` is target minus reference on the whole document, in nats per token; `lost` the same for each token of `pieces`, whose
    first `prompt` tokens (with the first one, of which nothing is asked) the models went on from.
    """

    place: SamplePlace
    document: Count
    gap: float
    pieces: list[str]
    lost: list[float]
    prompt: Annotated[int, Field(ge=1)]
    reference: str
    target: str


class SideBySide(Spent, JsonFile):
    """Samples in the order of their places, and how many tokens a second each model went on with: one sequence, in float32."""

    NAME: ClassVar[str] = "samples.json"
    samples: list[Sample]
    reference_speed: Amount
    target_speed: Amount
