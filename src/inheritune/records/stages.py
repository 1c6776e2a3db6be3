"""The files that the stages of a run write for each other: each one's name and its model."""

import tokenize
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import Field

from inheritune.disk.files import read_whole, whole_file
from inheritune.disk.seals import BrokenSealError, seal, sealing
from inheritune.errors import OutputError
from inheritune.evidence.gap import Gap
from inheritune.records.entry import Amount, Count, Depth, JsonFile, Spent
from inheritune.records.outside import OutsideText
from inheritune.records.result import Reading
from inheritune.records.rows import GrowthRow

PROFILE, REFERENCE_PROFILE, LOSSES = "profile.json", "reference-profile.json", "losses.npy"
# Partial results of a diagnosis, a choice and a repair, kept until these are done.
MAPS, CONTRASTS, CUTS = "maps.jsonl", "contrasts.jsonl", "cuts.jsonl"
REMOVALS, REPAIR = "removals.jsonl", "repair"
FURTHER_FOLDER, FURTHER_LOSSES = "further", "further.npy"
_ROUND_ANEW = "remove the folders of this round and of those after it, and the same command begins there anew"


def so_far(place: Path) -> Path:
    """The file that keeps the losses for the record at `place` until all of them are measured."""
    return place.with_suffix(".jsonl")


def write_losses(path: Path, losses: np.ndarray) -> None:
    """Write each document's loss, (documents,), as a `.npy` file followed by its seal. Raises OSError where it cannot be written."""
    file = BytesIO()
    np.save(file, losses)
    with whole_file(path) as whole:
        whole.write(file.getvalue() + seal(file.getvalue(), sealing(path)))


def read_losses(path: Path, documents: int | None = None) -> np.ndarray:
    """Read each document's loss, (documents,). Raises OutputError if the file is missing, damaged, or of another number of `documents`."""
    try:
        file = BytesIO(read_whole(path))
        losses = np.load(file, allow_pickle=False)
        written = file.getvalue()[: file.tell()]
        if (found := file.read()) and seal(written, sealing(path)) not in (b"", found):
            raise BrokenSealError
        if losses.ndim != 1 or len(losses) != (documents or len(losses)) or not np.isfinite(losses).all():
            raise ValueError
    except (OSError, ValueError, TypeError, EOFError, MemoryError, SyntaxError, tokenize.TokenError):
        raise OutputError(
            f"{str(path)!r} is damaged or not there: remove its folder, and the same command makes it again"
        ) from None
    return losses


@dataclass
class Position:
    """How far a round has come.

    Steps done; their tokens, FLOPs of training and seconds; how many of the last steps in a row were skipped; whether an
    evaluation ended the round; and the learning rate of the last step.
    """

    step: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    skipped: int = 0
    ended: bool = False
    rate: float | None = None


class DiagnosisCost(Spent, JsonFile):
    """The cost of `profile.json`, and its digest."""

    NAME: ClassVar[str] = "diagnosis.json"
    profile: str | None = None


class BlockOrder(Spent, JsonFile):
    """The reference's blocks in the order of their removal, the reason, and the blocks of each depth."""

    NAME: ClassVar[str] = "choice.json"
    method: str
    reason: str
    depth: Depth
    order: tuple[Count, ...]
    depths: dict[int, list[Count]]
    precision: str = "fp32"


class Untrained(Spent, JsonFile):
    """The loss of each depth's cut before any training or repair, the whole reference's last."""

    NAME: ClassVar[str] = "untrained.json"
    losses: dict[int, float]
    precision: str = "fp32"


class ReferenceLosses(Spent, JsonFile):
    """The reference on the validation documents: its mean loss, and each document's."""

    NAME: ClassVar[str] = "reference.json"
    val_loss: float
    losses: list[float]


class BeginLosses(Spent, JsonFile):
    """The reference's loss behind each begin of text, the one in use first, and a caution where another is better."""

    NAME: ClassVar[str] = "begin.json"
    losses: dict[str, float]
    worse: str | None


class Launched(JsonFile):
    """How many processes a run folder was begun by; written at its very start, and only where these are several."""

    NAME: ClassVar[str] = "launch.json"
    processes: Count


class Machine(JsonFile):
    """FLOP/s of this machine's matrix products, of which MFU is a share. `processes` comes from earlier versions and is not used."""

    NAME: ClassVar[str] = "machine.json"
    matrix_rate: Amount
    processes: Count = 1


class OwnRate(Spent, JsonFile):
    """The peak learning rate that a control is trained at, and the validation loss at each rate that was tried and did not blow up."""

    NAME: ClassVar[str] = "rate.json"
    rate: Amount
    losses: dict[float, float]


class RoundStart(Spent, JsonFile):
    """What a round's target was made of: the reference's blocks, a repair and its losses, or a growth step."""

    NAME: ClassVar[str] = "start.json"
    MENDED_BY: ClassVar[str] = _ROUND_ANEW
    blocks: list[Count]
    loss_before: float | None = None
    loss_after: float | None = None
    places: list[Count] = Field([])
    growth: GrowthRow | None = None


class FittedDepth(JsonFile):
    """The depth that meets the wanted size (`growth.target`), found only once: the time of a token never comes out the same twice."""

    NAME: ClassVar[str] = "size.json"
    depth: Depth


class RoundSteps(JsonFile):
    """The steps that the limits left a round when it began."""

    NAME: ClassVar[str] = "steps.json"
    MENDED_BY: ClassVar[str] = _ROUND_ANEW
    steps: Count


class RateFall(JsonFile):
    """The early decay of a round's learning rate, as the policy began it: from which of the round's steps, over how many."""

    NAME: ClassVar[str] = "decay.json"
    MENDED_BY: ClassVar[str] = _ROUND_ANEW
    step: Count
    steps: Count


class RoundEnd(JsonFile):
    """A finished round: its steps and their cost, and its last comparison. `losses.npy` has each document's loss.

    Where that comparison could not tell and more was read, `further` has the gap that decides, and `further.npy` all documents' losses.
    """

    NAME: ClassVar[str] = "round.json"
    MENDED_BY: ClassVar[str] = _ROUND_ANEW
    step: Count
    tokens: Count
    flops: Amount
    seconds: Amount
    skipped: Count
    ended: bool
    rate: Amount | None
    depth: Depth
    val_loss: float
    gap: Gap
    further: Reading | None = None

    @property
    def decisive(self) -> Gap:
        """The gap that decides: on all documents that were read."""
        return self.further.gap.measured if self.further else self.gap


class OutsideLosses(Spent, JsonFile):
    """A target beside the reference on the outside texts."""

    NAME: ClassVar[str] = "outside.json"
    texts: list[OutsideText]


class WrittenLoss(Spent, JsonFile):
    """The loss of a target's weights as they are written, rounded to the model's dtype."""

    NAME: ClassVar[str] = "written.json"
    val_loss: float


class PlannedLooks(JsonFile):
    """How many looks may call a match, declared before the first round, and the confidence of each.

    A look that cannot tell reads on up to `reads` times, each at `reading_confidence`.
    """

    NAME: ClassVar[str] = "looks.json"
    looks: Count
    confidence: float = Field(gt=0, lt=1)
    reads: Count = 0
    reading_confidence: float | None = Field(None, gt=0, lt=1)


class CheckpointState(JsonFile):
    """A checkpoint's position in its round, and the digests of its other files."""

    NAME: ClassVar[str] = "state.json"
    position: Position
    hashes: dict[str, str] = Field(min_length=1)


class Trained(JsonFile):
    """The result of a training without a reference: the loss on its validation documents, its cost, and where the model is.

    It is written as `result.json` in the run folder and, without `model_dir`, as `training.json` beside the model.
    """

    NAME: ClassVar[str] = "result.json"
    BESIDE_MODEL: ClassVar[str] = "training.json"
    LEAVES: ClassVar[bool] = True
    val_loss: float
    parameters: Count
    tokens: Count
    flops: Amount
    seconds: Amount
    tokens_per_parameter: Amount
    model_dir: str | None = None
