"""When a measurement that may end early does."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """After `until`, in seconds of the monotonic clock, no further part of a measurement is begun."""

    until: float = math.inf

    @classmethod
    def after(cls, minutes: float | None) -> "Deadline":
        """In so many minutes from now; None: never."""
        return cls() if minutes is None else cls(time.monotonic() + 60 * minutes)

    def over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.until

    def half(self) -> "Deadline":
        """In half the time that is left."""
        return Deadline((time.monotonic() + self.until) / 2)


UNLIMITED = Deadline()
