"""Deadlines of measurements that may end early."""

import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy


class TimeOver(Exception):
    """The time ran out in the middle of a pass, of which nothing is kept."""


@dataclass(frozen=True)
class Deadline:
    """After `until`, in seconds of the monotonic clock, no further part of a measurement is begun."""

    until: float = math.inf

    @classmethod
    def after(cls, minutes: float | None) -> "Deadline":
        """A deadline so many minutes from now; None: never."""
        return cls() if minutes is None else cls(time.monotonic() + 60 * minutes)

    def over(self, after: float = 0.0) -> bool:
        """Whether the time is over, or will be `after` so many seconds."""
        return time.monotonic() + after > self.until

    def half(self) -> "Deadline":
        """A deadline at half of the time that is left."""
        return Deadline((time.monotonic() + self.until) / 2)

    @contextmanager
    def ending(self, model: PreTrainedModel) -> Iterator[None]:
        """Within this context, a forward pass of `model` raises TimeOver before its next block once the time is over."""

        def look(*_: object) -> None:
            if self.over():
                raise TimeOver

        with ExitStack() as hooks:
            for block in anatomy(model).blocks if self.until < math.inf else ():
                hooks.callback(block.register_forward_pre_hook(look).remove)
            yield


class Pace:
    """Tells whether the time is over, or too short for one more step, assumed to take as long as the step before it."""

    def __init__(self, deadline: Deadline):
        self.deadline, self.asked = deadline, math.inf

    def late(self) -> bool:
        """Whether to stop; called before each step, since the time between two calls is what a step takes."""
        now = time.monotonic()
        took, self.asked = max(0.0, now - self.asked), now
        return now + took > self.deadline.until


UNLIMITED = Deadline()
