"""The records of a folder of prepared text: `manifest.json` when it is finished, `journal.jsonl` until then."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from inheritune.records.entry import Amount, Count, Entry, JsonFile

ASSISTANT: Literal["assistant"] = "assistant"
Sizes = tuple[Count, Count, Count] | tuple[Count, Count]  # tokens, documents and books; no books in older folders


class Sizing(Entry):
    """Tokens, documents and books of both sides, training and validation."""

    train: Sizes
    valid: Sizes


class PreparedSide(Entry):
    """One side: how much it holds, and the digests of its ids, of its documents' starts and books, and of which ids losses ask for."""

    tokens: Count
    documents: Count
    books: Count | None = None
    sha256: str
    starts_sha256: str
    books_sha256: str | None = None
    asked_sha256: str | None = None


class PreparedSides(Entry):
    """The two sides of a prepared text."""

    train: PreparedSide
    valid: PreparedSide


class SourceEnd(Entry):
    """The state at the end of a source: documents read of it, both sides' sizes and all repeats by then, and what was held out of it."""

    model_config = ConfigDict(extra="allow")

    read: Count
    sizes: Sizing
    repeats: Count = 0
    held_out: Literal["books", "sections"] | None = None


class SourceFile(Entry):
    """A file that a source's text was read from, and its digest."""

    name: str
    sha256: str


class NamedSource(Entry):
    """A source as the recipe names it, the files that were read for it, and the side that its documents went to."""

    model_config = ConfigDict(extra="allow")

    field: str = "text"
    source: str
    name: str | None = None
    split: str | None = None
    revision: str | None = None
    files: tuple[SourceFile, ...] = ()
    side: Literal["train", "valid"]


class PreparedSource(SourceEnd, NamedSource):
    """A source that was read to its end."""


class Origin(Entry):
    """What a folder's tokens were made from, and how.

    `begin` is there only where a begin of text stands in front of each text. `loss_on` says whose tokens alone losses ask for, if not
    all.
    """

    tokenizer: str
    end: Count
    begin: list[Count] = Field([])
    loss_on: Literal["assistant"] | None = None
    valid_share: Amount = 0.0
    sources: Sequence[NamedSource]


class PreparedIds(JsonFile):
    """How ids are stored: the format of the folder, the width of an id in bytes, and what both sides hold."""

    format: str
    bytes: Literal[2, 4]
    sides: PreparedSides


class Manifest(Origin, PreparedIds):
    """A finished folder: its sides, and everything that their bytes depend on.

    `chat` is the digest of the chat template that rendered its conversations.
    """

    model_config = ConfigDict(extra="allow")

    NAME: ClassVar[str] = "manifest.json"
    MENDED_BY: ClassVar[str] = "prepare the folder again"
    sources: Sequence[PreparedSource]
    repeats: Count
    vocabulary: Count
    chat: str | None = None

    @property
    def origin(self) -> Origin:
        """What the folder was made from."""
        ends = set(SourceEnd.model_fields)
        sources = [NamedSource(**source.model_dump(exclude=ends, exclude_unset=True)) for source in self.sources]
        made = {name: getattr(self, name) for name in Origin.model_fields}
        return Origin(**{**made, "sources": sources})


class JournalStart(Entry):
    """The first line of a journal: all that the bytes of the finished folder will depend on, each source by its fingerprint."""

    format: str
    tokenizer: str
    end: Count
    begin: list[Count] = Field([])
    loss_on: Literal["assistant"] | None = None
    chat: str | None = None
    field: str
    valid_share: Amount
    train: list[list[str | None]]
    valid: list[list[str | None]]


class JournalLine(Entry):
    """How far a preparation has come: documents read of source `source`, the sizes of both sides, and where each finished source ended.

    The rest is about the book that is being read: its name, how many of its sections came before, and the sides that it is on.
    `by_section` says that this source is read by section, `has_long` that it has a long document, `rendered` that there was a
    conversation.
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
    rendered: bool = False
