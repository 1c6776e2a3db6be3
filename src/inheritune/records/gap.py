"""The record of a gap, the same in every file."""

from typing import Self

from pydantic import model_validator

from inheritune.evidence.gap import Gap, Verdict
from inheritune.records.entry import Entry


class GapResult(Entry):
    """Target loss minus reference loss on the same documents, in nats per token, with its interval."""

    mean: float
    low: float
    high: float
    verdict: Verdict

    @classmethod
    def of(cls, gap: Gap) -> Self:
        """The record of a measured gap."""
        return cls(mean=gap.mean, low=gap.low, high=gap.high, verdict=gap.verdict)

    @property
    def measured(self) -> Gap:
        """The gap as it was measured."""
        return Gap(self.mean, self.low, self.high, self.verdict)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"the interval [{self.low}, {self.high}] does not hold its mean {self.mean}")
        return self
