"""The files that the cells and shards of a comparison write: each one's name and its model."""

from typing import ClassVar

from inheritune.evidence.gap import Gap
from inheritune.records.entry import Amount, Count, Depth, JsonFile, Spent

_CELL_ANEW = "remove the folder of this cell, and the same command makes it again"


class ComparisonBasis(JsonFile):
    """What gathering needs to know of the reference and the validation documents, so that it need not load a model.

    Per document: the reference's `losses`, the number of tokens in `weights`, and the index of its book or file in `clusters`.
    """

    NAME: ClassVar[str] = "about.json"
    reference_loss: float
    losses: list[float]
    weights: list[float]
    clusters: list[Count]
    depth: Depth
    reference_depth: Depth
    reference_tokens: Count | None
    reference_flops: Amount | None


class InherituneStart(JsonFile):
    """FLOPs that the method `inheritune` spends before it trains."""

    NAME: ClassVar[str] = "inheritune-prepared.json"
    flops: Amount


class ChosenBlocks(JsonFile):
    """The blocks that a criterion keeps for a comparison's depth, and the cost of the choice; one file per criterion."""

    NAME: ClassVar[str] = "choice-{}.json"
    blocks: list[Count]
    spent: Spent


class PhaseTokens(JsonFile):
    """The tokens of each of a cell's phases under the budget."""

    NAME: ClassVar[str] = "tokens.json"
    phases: list[Count]


class PhaseStart(JsonFile):
    """The cost of a phase's start, before training."""

    NAME: ClassVar[str] = "start.json"
    MENDED_BY: ClassVar[str] = _CELL_ANEW
    tokens: Count
    flops: Amount


class CellResult(JsonFile):
    """A finished cell: what was trained, its cost in all phases, and its last comparison."""

    NAME: ClassVar[str] = "cell.json"
    MENDED_BY: ClassVar[str] = _CELL_ANEW
    method: str
    seed: int
    peak_lr: Amount
    depth: Depth
    parameters: Count
    tokens: Count
    flops: Amount
    prepared_tokens: Count
    prepared_flops: Amount
    seconds: Amount
    val_loss: float
    gap: Gap


class Failure(JsonFile):
    """Why a cell, or every cell of a method, has no result."""

    NAME: ClassVar[str] = "failed.json"
    OF_METHOD: ClassVar[str] = "{}-refused.json"
    reason: str
    method: str | None = None
