"""What a run found, as data: the models behind `result.json`.

`python -m inheritune.records.result` prints the JSON schema that stands in `schemas/result.schema.json`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from inheritune.disk.files import read_whole, write_text
from inheritune.errors import InputError
from inheritune.records import entry
from inheritune.records.entry import Amount, Count, Depth, Entry, Share, Spent, first_fault
from inheritune.records.gap import GapResult
from inheritune.records.guard import Guard
from inheritune.records.outside import OutsideText
from inheritune.records.samples import SideBySide
from inheritune.records.token_by_token import TokenByToken

RANDOM = "random"  # the control that starts from random weights
CAUTION = "Caution: "  # begins each caution in a message
PACKED = "packed (GGUF)"  # named as the dtype of a file with fewer bits per number than any dtype
if TYPE_CHECKING:
    import pandas

Outcome = Literal["matched", "not_matched", "budget_spent", "fitted"]


class Footprint(Entry):
    """What a model takes: bytes of its weight files, their dtype, and bytes of keys and values that a token adds to the cache."""

    weight_bytes: Count
    dtype: str
    cache_bytes_per_token: Count | None = None

    @property
    def packed(self) -> bool:
        """Whether the file has fewer bits per number than any dtype."""
        return self.dtype == PACKED


class ReferenceModel(Entry):
    """The model that is to be matched; how long it was trained, where that is known."""

    model: str
    depth: Depth
    parameters: Count
    val_loss: float
    trained_tokens: Count | None = None
    tokens_per_parameter: Amount | None = None
    footprint: Footprint | None = None


class TargetModel(Entry):
    """The smaller model that was saved; `blocks` are the reference's block indices, bottom first.

    `val_loss` is that of the trained weights in float32, `written_loss` that of the weights as they are written, where that
    is in another dtype.
    """

    depth: Depth
    blocks: list[Count]
    parameters: Count
    val_loss: float
    written_loss: float | None = None
    footprint: Footprint | None = None

    @model_validator(mode="after")
    def _one_block_a_place(self) -> Self:
        if len(self.blocks) != self.depth:
            raise ValueError(f"{len(self.blocks)} blocks are listed for a depth of {self.depth}")
        return self


class Reading(Spent):
    """What was read on where a look could not tell: documents and tokens by then in all, and losses and gap on them.

    Tokens, FLOPs and seconds are what reading on took for the target.
    """

    documents: Count
    tokens_in_all: Count
    val_loss: float
    reference_loss: float
    gap: GapResult
    confidence: Annotated[float, Field(gt=0, lt=1)]


class Round(Entry):
    """One depth, trained and compared. Tokens, FLOPs and seconds are this round's alone.

    Where the look at its end could not tell and more was read, `further` has the gap that decides.
    """

    depth: Depth
    blocks: list[Count]
    steps: Count
    tokens: Count
    flops: Amount
    seconds: Amount
    val_loss: float
    gap: GapResult
    further: Reading | None = None

    @property
    def decisive(self) -> GapResult:
        """The gap that decides: on all documents that were read."""
        return self.further.gap if self.further else self.gap


class Control(Entry):
    """Another model given the same tokens, against the reference on the same documents.

    `learning_rate` is the peak that it was trained at. `target` is the target minus the control, on the same documents.
    """

    name: str
    depth: Depth
    tokens: Count
    flops: Amount
    seconds: Amount
    val_loss: float
    gap: GapResult
    learning_rate: Amount
    target: GapResult


def trained_on(controls: list[Control] | None) -> Control | None:
    """The control of lowest loss among those that train the reference on for the same tokens; None if there are none."""
    return min((c for c in controls or [] if c.name != RANDOM), key=lambda control: control.val_loss, default=None)


class Decision(Entry):
    """What was decided after a round, and why, in words."""

    round: Count
    action: str
    reason: str


class Ledger(Entry):
    """Compute by phase (diagnosis, choice, heal, training, validation, controls ...) and in total."""

    phases: dict[str, Spent]
    total: Spent


class Validation(Entry):
    """The fixed set every loss was measured on, and at which precision; how many looks at it were planned, and each one's confidence.

    `tokens_needed` would show a difference of 0.005 nats per token in four runs of five.
    """

    documents: Count
    tokens: Count
    looks: Count = 1
    look_confidence: Annotated[float, Field(gt=0, lt=1)] | None = None
    tokens_needed: Count | None = None
    precision: str = "fp32"


class PlanHeld(Entry):
    """What was planned for as many rounds as there were, beside what it took: seconds, and the most bytes of a process.

    Costs are there where the run was told a price, in its money. `expected_gap` and `expected_chance` are what was forecast of the first
    round's depth after `expected_tokens`: the gap in nats per token with its 80% interval (low, mean, high), and how likely a match was.
    """

    planned_seconds: Amount
    seconds: Amount
    planned_memory: Count
    memory: Count
    planned_cost: Amount | None = None
    cost: Amount | None = None
    expected_gap: tuple[float, float, float] | None = None
    expected_chance: Share | None = None
    expected_tokens: Count | None = None


class Versions(Entry):
    """What the run ran on."""

    python: str
    torch: str
    transformers: str
    inheritune: str
    platform: str


class Result(Entry):
    """One finished run, as written to `result.json`. Losses and gaps are in nats per token."""

    outcome: Outcome
    message: str
    reference: ReferenceModel
    target: TargetModel
    rounds: list[Round]
    margin: Amount
    confidence: Annotated[float, Field(gt=0, lt=1)]
    decisions: list[Decision]
    controls: list[Control] | None
    ledger: Ledger
    model_dir: str
    report: str
    seed: int
    versions: Versions
    command: str
    validation: Validation
    outside: list[OutsideText] = Field([])
    guard: Guard | None = None
    token_by_token: TokenByToken | None = None
    side_by_side: SideBySide | None = None
    planned: PlanHeld | None = None
    recipe: str | None = Field(None, description="Digest of the `config.yaml` that the run ended by.")

    @property
    def cautions(self) -> int:
        """How many cautions the message holds."""
        return self.message.count(CAUTION)

    @property
    def look_confidence(self) -> float:
        """Confidence of one look's interval: the planned looks share the run's error probability."""
        return self.validation.look_confidence or self.confidence

    @property
    def further(self) -> Reading | None:
        """The further reading that the saved target's gap rests on; None if there was none."""
        found = [round_.further for round_ in self.rounds if round_.blocks == self.target.blocks]
        return found[-1] if found else None

    @property
    def gap_confidence(self) -> float:
        """Confidence of the interval of the saved target's gap."""
        return self.further.confidence if self.further else self.look_confidence

    def to_frame(self) -> "pandas.DataFrame":
        """A row for each round, its gap in columns `gap_mean`, `gap_low`, `gap_high` and `gap_verdict`. Needs pandas."""
        import pandas

        rounds = [
            (number, done.model_dump(exclude={"gap", "further"}), done.decisive)
            for number, done in enumerate(self.rounds, 1)
        ]
        rows = [
            {"round": number, **plain, **{f"gap_{name}": value for name, value in gap.model_dump().items()}}
            for number, plain, gap in rounds
        ]
        return pandas.DataFrame(rows).set_index("round")

    def save(self, path: Path) -> None:
        """Write as JSON; a reader sees the old file or the new one, never a half."""
        write_text(path, entry.json_text(self, 2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `result.json`. Raises InputError if it is missing or not a result."""
        try:
            return cls.model_validate_json(read_whole(path))
        except OSError as error:
            raise InputError(f"No result can be read from {path}: {error}.") from error
        except ValidationError as error:
            raise InputError(
                f"{path} is not a run's result as this version writes it ({first_fault(error)}): it is damaged or of another version;"
                " read it with the version that wrote it, or run the recipe in another folder (--out)."
            ) from error


def schema_text() -> str:
    """The JSON schema of `result.json`, as it stands in the package."""
    return entry.schema_text(Result)


if __name__ == "__main__":
    print(schema_text(), end="")
