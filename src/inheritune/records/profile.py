"""The result of a diagnosis, as data: layers x heads with their sampling errors, curves, and a suggestion.

Every measure named `x` is a mean over sequences and `x_se` its standard error. Losses are nats per token. Lists named
by layer are in the model's order, bottom first. `python -m inheritune.records.profile` prints the JSON schema.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inheritune.disk.files import read_whole, write_text
from inheritune.errors import InputError
from inheritune.records.entry import Amount, Count, first_fault, json_text

ATTENTION, SLIDING, OTHER = "softmax attention", "sliding attention", "no softmax attention"

SURE = 0.975  # a head is surely lazy at this probability or above, and surely not lazy at one minus it or below

NO_TIME = "(no time)"  # marks what was left out because the time was over


class ProfileEntry(BaseModel):
    """A part of a profile: no unknown keys, fixed once made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Head(ProfileEntry):
    """One attention head. Shares are of attention, entropy in nats; `output` is relative to the residual's norm.

    `lazy_probability` is how sure it is that the true mean k* is at most 1.5, by Student's t over the sequences.
    """

    rank: float
    rank_se: float
    mass: float
    mass_se: float
    first_key: float
    first_key_se: float
    heaviest_key: float
    heaviest_key_se: float
    previous: float
    previous_se: float
    entropy: float
    entropy_se: float
    output: float | None = None
    output_se: float | None = None
    lazy_probability: float
    query_gradient: float | None = None
    key_gradient: float | None = None


class Layer(ProfileEntry):
    """One block. Attention measures are None where it has no softmax attention; block measures are always there.

    Sliding attention is softmax attention whose queries look back to `window` tokens, themselves counted.

    `lazy` is the strict definition: k* = 1 in every head of every sequence. `lazy_sequences` is the share of sequences
    on which it holds, with its 95% interval. `lazy_share` is the share of heads whose mean k* is at most 1.5; between
    `_low` and `_high` lie the heads of which the sampling error leaves this open. `max_rank_se` is that of the widest head.
    """

    index: Count
    kind: Literal["softmax attention", "sliding attention", "no softmax attention"]
    window: Count | None = None
    heads: list[Head]
    max_rank: float | None = None
    max_rank_se: float | None = None
    mass: float | None = None
    mass_se: float | None = None
    lazy: bool | None = None
    lazy_sequences: float | None = None
    lazy_sequences_low: float | None = None
    lazy_sequences_high: float | None = None
    lazy_share: float | None = None
    lazy_share_low: float | None = None
    lazy_share_high: float | None = None
    influence: float
    influence_se: float
    exit_loss: float | None = None
    without_loss: float | None = None
    without_rise_se: float | None = None


class Cut(ProfileEntry):
    """A list of blocks that was run as it is: its loss, and its rise over the whole with the paired standard error."""

    removed: Count
    blocks: list[Count]
    loss: float
    rise: float
    rise_se: float


class Curves(ProfileEntry):
    """The inheritance curve: what is left of the model when blocks go. Index `removed` - 1 in each list.

    The losses are of `sequences` of one length, together `tokens`. `measured` different cuts were run; the lists hold the lowest.
    Lists end early where the time was over: `left_out` more were wanted, which would take about `seconds_left`. Of a large vocabulary each cut is first read at `places`
    of each sequence, and at more where that leaves open which is lower; `cut_short`: the time was over before all was read that was wanted.
    """

    whole_loss: float
    first: list[Cut]
    run: list[Cut]
    scattered: list[Cut]
    sequences: Count
    tokens: Count = 0
    measured: Count = 0
    places: Count | None = None
    left_out: Count = 0
    seconds_left: Amount | None = None
    cut_short: bool = False
    block_passes: Count
    head_passes: Count


class Contrast(ProfileEntry):
    """The same attention measures elsewhere: untrained weights, or another length. One value a layer."""

    name: str
    length: Count
    sequences: Count
    max_rank: list[float | None]
    mass: list[float | None]
    lazy_share: list[float | None]


class DocumentsRead(ProfileEntry):
    """From how many documents (books, where they are sections of some) the sequences come, `of` how many.

    `whole`: those are all documents of the text, not those of its first part alone.
    """

    read: Count
    of: Count
    whole: bool


class Suggestion(ProfileEntry):
    """A depth and blocks to start from, None where none is suggested; why, and what that rests on."""

    depth: Annotated[int, Field(ge=1)] | None
    blocks: list[Count] | None
    reason: str
    rests_on: str


class ProfileRecord(ProfileEntry):
    """What every layer and head of a decoder does on one corpus.

    `lazy_heads` names the heads whose mean k* is at most 1.5, by layer. `left_out` says what the time or the memory was too
    short for; cuts of which some had time are counted in `curves`. `chance_loss` is ln V, a uniform guess's; `at_chance` says that `loss` is at least 0.9 of it, and so no cut's loss tells.
    """

    model_config = ConfigDict(title="Profile")

    model: str
    depth: Count
    sequences: Count
    tokens: Count
    documents: DocumentsRead | None = None
    shortest: Count
    longest: Count
    trained_length: Count | None
    threshold: float
    loss: float
    loss_se: float
    chance_loss: float | None = None
    at_chance: bool = False
    layers: list[Layer]
    lazy_heads: dict[Count, list[Count]] = Field(default_factory=dict)
    angular: list[list[float]]
    curves: Curves | None
    contrasts: list[Contrast]
    left_out: list[str] = Field(default_factory=list)
    suggestion: Suggestion
    caveats: list[str]
    seconds: float

    @property
    def lazy_layers(self) -> list[int]:
        """Layers that are lazy by the strict definition, MaxRank = 1 (paper, definition G.1)."""
        return [layer.index for layer in self.layers if layer.lazy]

    def save(self, path: Path | str) -> None:
        """Write as JSON; a reader sees the old file or the new one, never a half."""
        write_text(Path(path), json_text(self) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read a `profile.json`. Raises InputError if it is missing or not a profile."""
        try:
            return cls.model_validate_json(read_whole(Path(path)))
        except OSError as error:
            raise InputError(f"no profile can be read from {str(path)!r}: {error.strerror}.") from error
        except ValidationError as error:
            raise InputError(f"{path} is not a profile: {first_fault(error)}.") from error


def schema_text() -> str:
    """The JSON schema of `profile.json`, as it stands in the package."""
    return json.dumps(ProfileRecord.model_json_schema(mode="serialization"), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(schema_text(), end="")
