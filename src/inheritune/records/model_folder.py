"""The records beside the weights of a model that was cut or grown: where it came from, and what was proved of it."""

import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

from pydantic import Field

import inheritune
from inheritune.records.entry import Count, Depth, Entry, JsonFile
from inheritune.words import show


@dataclass(frozen=True)
class Healing:
    """What a repair did: mean loss in nats per token before and after, the places refitted, its cost."""

    loss_before: float
    loss_after: float
    places: list[int]
    tokens: int
    flops: int


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("torch", "transformers", "safetensors")}
    return {"inheritune": inheritune.__version__, **others}  # also known where it was never installed


class ModelOrigin(JsonFile):
    """How a model was made: which of the source's blocks it has, what else was inherited, and what was done to it.

    `origin` names the model that the source's own blocks came from. `tower_of` is the type of a source that reads
    images or sound too, of which this model is the text tower alone. `miscounted` says what programs that derive a layer's
    kind from its number read otherwise than its config says.
    """

    NAME: ClassVar[str] = "inheritune.json"
    LEAVES: ClassVar[bool] = True
    WITH_DEFAULTS: ClassVar[bool] = True
    action: str
    source: str
    fingerprint: str
    reference_depth: Depth
    blocks: list[Count]
    parts: list[str]
    outside: str
    healed: Healing | None = None
    proved: bool | None = None
    new_blocks: str | None = None
    origin: dict[str, str] | None = None
    trained_tokens: Count | None = None
    tower_of: str | None = None
    miscounted: str | None = None
    blocks_shown: str = Field(default_factory=lambda found: show(found.get("blocks", [])))
    versions: dict[str, str] = Field(default_factory=_versions)

    def as_printed(self) -> str:
        """What the commands print with --json: the record without versions and what follows from the rest."""
        return json.dumps(self.model_dump(mode="json", exclude={"blocks_shown", "versions"}))


class CheckRecord(Entry):
    """One check of a model: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    detail: str


class ProofRecord(JsonFile):
    """The checks that a model was put to, and whether it passed them all."""

    NAME: ClassVar[str] = "proof.json"
    LEAVES: ClassVar[bool] = True
    passed: bool
    checks: list[CheckRecord]
