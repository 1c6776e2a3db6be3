"""What has happened in a run and what may be done next: plain data, without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inheritune.evidence.gap import Gap
from inheritune.evidence.left import ExpectedGap
from inheritune.records.result import Outcome


@dataclass(frozen=True)
class Seen:
    """An evaluation within a round.

    `step` counts the steps of this round. `end` is the step at which its schedule ends. `seconds` were spent on training so far.
    """

    step: int
    end: int
    gap: Gap
    seconds: float


@dataclass(frozen=True)
class Finished:
    """A round that was trained and compared. If it was cut short, it ended before the last `end` in `seen`."""

    depth: int
    gap: Gap
    tokens: int
    flops: float
    seconds: float
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class History:
    """What has happened so far.

    `standing` is the depth of the current target (None before the cut), `waiting` says that it is not trained yet, and
    `seen` are the evaluations of the round that is going on.
    """

    standing: int | None = None
    waiting: bool = False
    rounds: tuple[Finished, ...] = ()
    seen: tuple[Seen, ...] = ()

    @property
    def seconds(self) -> float:
        """Seconds of all finished rounds."""
        return sum(done.seconds for done in self.rounds)


@dataclass(frozen=True)
class Plan:
    """What the recipe says of depths, rounds and limits: all that the policy decides from.

    A round has `round_steps` steps of `batch_tokens` tokens. The rate rises in the first `warmup_steps`. A schedule with a
    constant rate decays over the last `decay_steps` (0 for other schedules), and the decay may begin sooner. `rate(step, end)`
    is the rate at a step of a round that ends at `end`. `step_flops` is the cost of a step at each depth. `left` is the gap
    that is expected at each depth after a round; it is empty if nothing was measured. `reach_left` is the share of an
    interval's half-width that is left after reading on. With `literal` the rules are the paper's, and each growth adds `add` blocks.
    With `fit` there is one depth and one round, and no match is claimed.
    """

    start: int
    add: int
    max_depth: int
    margin: float
    round_steps: int
    batch_tokens: int
    max_rounds: int
    max_tokens: int | None = None
    max_flops: float | None = None
    max_seconds: float | None = None
    literal: bool = True
    fit: bool = False
    warmup_steps: int = 0
    decay_steps: int = 0
    rate: Callable[[int, int], float] = lambda step, end: 1.0
    reach_left: float = 1.0
    step_flops: Mapping[int, float] = field(default_factory=dict)
    left: Mapping[int, ExpectedGap] = field(default_factory=dict)

    @property
    def looks(self) -> int:
        """The most rounds that can follow from `start` to `max_depth`. Each is a look that may call a match."""
        return most_looks(self.start, self.max_depth, self.add)

    def deeper(self, depth: int) -> list[int]:
        """The depths that a target of `depth` may grow to, the deepest allowed last."""
        return [*range(depth + self.add, self.max_depth, self.add), self.max_depth]


def most_looks(start: int, deepest: int, add: int) -> int:
    """The most rounds from one depth to another, each `add` blocks deeper than the one before or the deepest."""
    return 1 + -(-max(0, deepest - start) // add)


@dataclass(frozen=True)
class Inherit:
    """Cut the first target."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Train:
    """Train the current target for a round of `steps`, and compare it."""

    steps: int
    reason: str


@dataclass(frozen=True)
class GoOn:
    """Within a round: train on. The reason is empty where there was nothing to decide."""

    reason: str = ""


@dataclass(frozen=True)
class Decay:
    """Within a round: begin the learning rate's decay now, over `steps`."""

    steps: int
    reason: str


@dataclass(frozen=True)
class Grow:
    """Add the next blocks of the choice to the target. Within a round: end the round first."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Stop:
    """End the run; within a round: end that first."""

    outcome: Outcome
    reason: str


Action = Inherit | Train | GoOn | Decay | Grow | Stop
