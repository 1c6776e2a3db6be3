"""What a folder of prepared text says of itself: `manifest.json` when it is finished, `journal.jsonl` until then."""

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from inheritune.records.entry import Count, Entry, JsonFile

Sizes = tuple[Count, Count, Count] | tuple[Count, Count]  # tokens, documents and books; no books in older folders


class Sizing(Entry):
    """Tokens, documents and books of both sides."""

    train: Sizes
    valid: Sizes


class PreparedSide(Entry):
    """One side: how much it holds, and the digests of its ids and of its documents' starts and books."""

    tokens: Count
    documents: Count
    books: Count | None = None
    sha256: str
    starts_sha256: str
    books_sha256: str | None = None


class PreparedSides(Entry):
    """The two sides of a prepared text."""

    train: PreparedSide
    valid: PreparedSide


class SourceEnd(Entry):
    """Where a source ended: the documents read of it, both sides' sizes and all repeats then, and what was held out of it."""

    model_config = ConfigDict(extra="allow")

    read: Count
    sizes: Sizing
    repeats: Count = 0
    held_out: Literal["books", "sections"] | None = None


class PreparedSource(SourceEnd):
    """A source by its name, the side that it went to, and what it gave; whatever else the recipe says of it stands beside."""

    source: str
    side: Literal["train", "valid"]


class Manifest(JsonFile):
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
    """How far a preparation is: documents read of source `source`, both sides' sizes, and where each source that is done ended.

    The book that is being read: its name, how many sections of it came before, the sides that it stands on; whether this source is
    read by section, and whether it has a long document.
    """

    source: Count
    read: Count
    repeats: Count
    sizes: Sizing
    ends: list[SourceEnd]
    book: str
    section: Count
    sides: list[Literal["train", "valid"]]
    by_section: bool
    has_long: bool
