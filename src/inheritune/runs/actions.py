"""What has happened in a run and what may be done next: plain data, without torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from inheritune.evidence.gap import Gap
from inheritune.evidence.left import ExpectedGap
from inheritune.records.result import Outcome


@dataclass(frozen=True)
class Seen:
    """An evaluation within a round.

    `step` counts the round's own steps, `end` is the step at which the round ends by its schedule, `seconds` are of training so far.
    """

    step: int
    end: int
    gap: Gap
    seconds: float


@dataclass(frozen=True)
class Finished:
    """A round that was trained and compared; one that was cut short ends before the last `end` in `seen`."""

    depth: int
    gap: Gap
    tokens: int
    flops: float
    seconds: float
    seen: tuple[Seen, ...] = ()


@dataclass(frozen=True)
class History:
    """What has happened: the depth that stands (None before the cut), whether its round is to come, and what it has seen."""

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
    """The recipe's part that decides: depths, what a round is, and the limits.

    A round has `round_steps` of `batch_tokens` each, the first `warmup_steps` of them with a rising rate. Where the rate is constant
    before its decay, `decay_steps` (else 0) are its decay, which may begin sooner. `rate(step, end)` is the rate in a
    round that ends at `end`. By depth: `step_flops`, the FLOPs of a step, and `left`, the gap that is expected after a round,
    empty where nothing was measured. `reach_left` is the share of an interval's reach that is left once a look has read on. With `literal`, the rules are the paper's, and depths grow by `add`.
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
    warmup_steps: int = 0
    decay_steps: int = 0
    rate: Callable[[int, int], float] = lambda step, end: 1.0
    reach_left: float = 1.0
    step_flops: Mapping[int, float] = field(default_factory=dict)
    left: Mapping[int, ExpectedGap] = field(default_factory=dict)

    @property
    def looks(self) -> int:
        """The most rounds that depths between `start` and `max_depth` allow, each a look that may call a match."""
        return 1 + -(-max(0, self.max_depth - self.start) // self.add)

    def deeper(self, depth: int) -> list[int]:
        """The depths that a target of `depth` may grow to, the deepest allowed last."""
        return [*range(depth + self.add, self.max_depth, self.add), self.max_depth]


@dataclass(frozen=True)
class Inherit:
    """Cut the first target."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Train:
    """Train the target that stands for a round of `steps`, and compare it."""

    steps: int
    reason: str


@dataclass(frozen=True)
class GoOn:
    """Within a round: train on; without a reason where nothing was weighed."""

    reason: str = ""


@dataclass(frozen=True)
class Decay:
    """Within a round: let the learning rate fall to its end now, over `steps`."""

    steps: int
    reason: str


@dataclass(frozen=True)
class Grow:
    """Make the target deeper by the next blocks of the choice; within a round: end it first."""

    depth: int
    reason: str


@dataclass(frozen=True)
class Stop:
    """End the run; within a round: end that first."""

    outcome: Outcome
    reason: str


Action = Inherit | Train | GoOn | Decay | Grow | Stop
