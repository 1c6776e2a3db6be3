"""The record of what the guard set says of two models."""

from typing import ClassVar, Literal

from inheritune.records.entry import Count, Entry, JsonFile, Share, Spent

Able = Literal["able", "lost", "cannot tell"]


class GuardRow(Entry):
    """A task: shares of its items that each model has right beside `by_chance`, and the difference with its interval.

    `lost` items the reference alone has right, `won` the model alone; `chance` is that of so uneven a split (McNemar's exact test). Of
    both together the share that was lost lies between `lost_low` and `lost_high`, exactly, at the row's confidence.
    """

    task: str
    items: Count
    by_chance: Share
    model: Share
    reference: Share
    mean: float
    low: float
    high: float
    lost: Count
    won: Count
    chance: Share
    lost_low: Share = 0.0
    lost_high: Share = 1.0


class Guard(Entry):
    """The guard's rows, that of all items last; and whether the model is as able, what it lost, or that it cannot be told.

    `tolerance` is the share of items that may be lost.
    """

    rows: list[GuardRow]
    verdict: Able
    lost: list[str]
    tolerance: Share

    @property
    def told(self) -> str:
        """The verdict in words."""
        return f"lost: {'; '.join(self.lost)}" if self.lost else self.verdict


class GuardAnswers(Spent, JsonFile):
    """Whether a model had each item right; None where its tokenizer cannot tell the choices apart. `items` is the items' digest."""

    NAME: ClassVar[str] = "guard.json"
    items: str
    right: list[bool | None]
