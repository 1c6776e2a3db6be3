"""What a folder of prepared text says of itself: `manifest.json` when it is finished, `journal.jsonl` until then."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from inheritune.records.entry import Count, Entry, Kept

Sizes = tuple[Count, Count]  # tokens and documents


class Sizing(Entry):
    """Tokens and documents of both sides."""

    train: Sizes
    valid: Sizes


class PreparedSide(Entry):
    """One side: how much it holds, and the digests of its ids and of its documents' starts."""

    tokens: Count
    documents: Count
    sha256: str
    starts_sha256: str


class PreparedSides(Entry):
    """The two sides of a prepared text."""

    train: PreparedSide
    valid: PreparedSide


class SourceEnd(Entry):
    """Where a source ended: the documents read of it, and both sides' sizes then."""

    model_config = ConfigDict(extra="allow")

    read: Count
    sizes: Sizing


class PreparedSource(SourceEnd):
    """A source by its name, the side that it went to, and what it gave; whatever else the recipe says of it stands beside."""

    source: str
    side: Literal["train", "valid"]


class Manifest(Kept):
    """A finished folder: the width of an id in bytes, both sides, and everything that its bytes depend on."""

    model_config = ConfigDict(extra="allow")

    NAME: ClassVar[str] = "manifest.json"
    MENDED_BY: ClassVar[str] = "prepare the folder again"
    format: str
    bytes: Literal[2, 4]
    sides: PreparedSides
    tokenizer: str
    end: Count
    begin: list[Count] = Field([])
    sources: list[PreparedSource]
    repeats: Count
    vocabulary: Count


class JournalLine(Entry):
    """How far a preparation is: documents read of source `source`, both sides' sizes, and where each source that is done ended."""

    source: Count
    read: Count
    repeats: Count
    sizes: Sizing
    ends: list[SourceEnd]
