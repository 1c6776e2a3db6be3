"""What stands beside the weights of a model that was cut or grown: where it came from, and what was proved of it."""

from typing import Any, ClassVar

from inheritune.records.entry import Count, Depth, Entry, JsonFile


class ModelOrigin(JsonFile):
    """How a model was made; `blocks_shown` are its blocks as ranges, `origin` whose blocks its source's were."""

    NAME: ClassVar[str] = "inheritune.json"
    action: str
    source: str
    fingerprint: str
    reference_depth: Depth
    blocks: list[Count]
    parts: list[str]
    outside: str
    healed: dict[str, Any] | None
    proved: bool | None
    new_blocks: str | None
    origin: dict[str, str] | None
    trained_tokens: Count | None
    tower_of: str | None
    blocks_shown: str
    versions: dict[str, str]


class CheckRecord(Entry):
    """One question to a model: its name, whether it passed, and what was seen."""

    name: str
    passed: bool
    detail: str


class ProofRecord(JsonFile):
    """The checks that a model was put to, and whether it passed them all."""

    NAME: ClassVar[str] = "proof.json"
    passed: bool
    checks: list[CheckRecord]
