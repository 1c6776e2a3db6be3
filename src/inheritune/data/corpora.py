"""Where text comes from: one name for every kind of source (docs/data.md)."""

from collections.abc import Iterator
from dataclasses import replace

from inheritune.config.sections import Source
from inheritune.data.documents import LONGEST, Document
from inheritune.data.kinds import source_kind
from inheritune.data.kinds.plain_files import PlainFiles
from inheritune.data.kinds.prepared import Prepared
from inheritune.errors import DataError
from inheritune.models.chat import PLAIN, Chat, Renderer

_BYTES_A_TOKEN = 4.2  # of English in vocabularies of some ten thousand words and more


def named(text: str) -> Source:
    """The source that a command names; raises DataError for an empty name."""
    if not text:
        raise DataError("the text's name is empty: give a file, a folder, a glob or hf:ID of the hub")
    return Source(source=text)


def documents(source: Source | str, field: str = "text", chat: Chat = PLAIN) -> Iterator[Document]:
    """Stream the documents of a source of text: each is a section of running text, or a row of JSONL or of a table.

    Conversations are rendered by `chat`. Raises DataError for what is missing, empty, damaged, not UTF-8, or not what its name says.
    """
    source = named(source) if isinstance(source, str) else source
    found = False
    with Renderer(chat, LONGEST) as renderer:
        for document in source_kind(source).documents(source.field or field):
            if document.messages is not None:
                document = _rendered(document, source, renderer)
            if len(document.text) > LONGEST:
                raise DataError(
                    f"{document.name!r} in {source.source!r} has more than {LONGEST >> 20} MB: cut it into documents"
                )
            found = True
            yield document
    if not found:
        raise DataError(f"{source.source!r} holds no text: give a source with at least one document")


def _rendered(document: Document, source: Source, renderer: Renderer) -> Document:
    assert document.messages is not None
    found = renderer.render(f"{document.name!r} in {source.source!r}", document.messages)
    return replace(document, text=found.text, asked=found.assistant)


def require(sources: list[Source]) -> None:
    """Raise DataError where a source is not there, without reading it; the hub is not asked."""
    for source in sources:
        source_kind(source).require()


def tokens_in_files(sources: list[Source]) -> int | None:
    """How many tokens these sources hold, estimated by bytes for files; None if one is neither prepared nor made of files."""
    counts = [_tokens_in(source) for source in sources]
    return None if None in counts else round(sum(count or 0 for count in counts))


def _tokens_in(source: Source) -> float | None:
    kind = source_kind(source)
    if isinstance(kind, Prepared):
        return kind.tokens
    if not isinstance(kind, PlainFiles):
        return None
    return sum(file.about_bytes for file in kind.files) / _BYTES_A_TOKEN
