"""When a measurement that may end early does."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy


class TimeOver(Exception):
    """The time is over in the middle of a pass, of which nothing is kept."""


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

    @contextmanager
    def ending(self, model: PreTrainedModel) -> Iterator[None]:
        """Here a pass ends with TimeOver before its next block, once the time is over."""

        def look(*_: object) -> None:
            if self.over():
                raise TimeOver

        with ExitStack() as hooks:
            for block in anatomy(model).blocks if self.until < math.inf else ():
                hooks.callback(block.register_forward_pre_hook(look).remove)
            yield


class Pace:
    """Whether the time is over, or too short for one thing more: that is taken to last as long as the one before it."""

    def __init__(self, deadline: Deadline):
        self.deadline, self.asked = deadline, math.inf

    def late(self) -> bool:
        """Asked before each thing: the time since it was asked last is what the last thing took."""
        now = time.monotonic()
        took, self.asked = max(0.0, now - self.asked), now
        return now + took > self.deadline.until


UNLIMITED = Deadline()
