"""What a criterion returns: the order in which the reference's blocks can be removed, and why."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.errors import OutputError
from inheritune.progress import Tally, silent
from inheritune.records.stages import BlockOrder
from inheritune.report.profile import Profile


@dataclass(frozen=True)
class Ordering:
    """The reference's blocks in the order in which they are removed. Growing adds them in the opposite order.

    `flops` and `tokens` are the cost of the criterion's own forward passes.
    """

    method: str
    reason: str
    depth: int
    order: tuple[int, ...]
    tokens: int = 0
    flops: float = 0.0

    def blocks(self, depth: int) -> list[int]:
        """The blocks of a target of this depth."""
        gone = set(self.order[: self.depth - depth])
        return [block for block in range(self.depth) if block not in gone]


@dataclass(frozen=True)
class Search:
    """Limits and progress of a criterion that measures losses.

    It orders blocks down to the depth `shallowest`, for at most `minutes`, and stops at a cut that is `hopeless`, judged by the
    nats that the cut loses. Losses are computed at `precision` and leave out the first token and the `unasked` ones after it.
    Results are kept in the file `kept`, so that they are not measured again after a stop. `count` receives the progress.
    """

    shallowest: int = 1
    minutes: float | None = None
    unasked: int = 0
    kept: Path | None = None
    count: Tally = silent
    hopeless: Callable[[float], bool] = lambda lost: False
    precision: str = "fp32"


FULL_SEARCH = Search()


class Criterion(Protocol):
    """Orders the blocks of `reference`, by its loss on `tokens_BT` or by its profile."""

    def __call__(
        self, reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH
    ) -> Ordering: ...


def by_score(scores: Sequence[float]) -> tuple[int, ...]:
    """Blocks by rising score; among equal ones the deeper block comes first."""
    return tuple(sorted(range(len(scores)), key=lambda block: (scores[block], -block)))


def to_record(choice: Ordering, seconds: float, precision: str) -> BlockOrder:
    """Return the record of a choice, with the blocks of every depth, the `seconds` that it took and its `precision`."""
    depths = {depth: choice.blocks(depth) for depth in range(1, choice.depth + 1)}
    return BlockOrder(**asdict(choice), seconds=seconds, depths=depths, precision=precision)


def from_record(found: BlockOrder, depth: int) -> Ordering:
    """Return the choice of a record. Raises OutputError if it does not order the blocks of a reference of this depth."""
    if sorted(found.order) != list(range(depth)):
        raise OutputError(f"{BlockOrder.NAME} orders other blocks than 0 to {depth - 1}: {BlockOrder.MENDED_BY}")
    return Ordering(found.method, found.reason, depth, found.order, found.tokens, found.flops)
