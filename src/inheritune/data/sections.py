"""Cut books into sections, for text of which too few books could be held out whole."""

from collections.abc import Iterable, Iterator

from inheritune.data.documents import Document, Encoded

# A document of more than LONG characters is cut into sections, of _SECTION to _LONGEST characters where one of _ENDS allows.
LONG, _SECTION, _LONGEST = 100_000, 4_000, 12_000
_ENDS = ("\n\n", "\n", " ")
# The same for token ids, in which paragraphs cannot be seen.
_LONG_TOKENS, _TOKENS = 25_000, 1_024


def is_long(document: Document | Encoded) -> bool:
    """Whether a document is cut into sections."""
    if isinstance(document, Document):
        return len(document.text) > LONG
    return len(document.ids) > _LONG_TOKENS


def in_sections(documents: Iterable[Document]) -> Iterator[Document]:
    """Yield documents, long ones cut into sections."""
    for document in documents:
        if is_long(document):
            spans = ((start, end) for start, end in _sections(document.text) if end > start)
            yield from (document.section(f"{document.name}/{n}", *span) for n, span in enumerate(spans))
        else:
            yield document


def ids_in_sections(documents: Iterable[Encoded]) -> Iterator[Encoded]:
    """Yield documents of token ids, long ones cut into sections."""
    for document in documents:
        if is_long(document):
            places = (slice(start, start + _TOKENS) for start in range(0, len(document.ids), _TOKENS))
            yield from (_section(document, n, place) for n, place in enumerate(places))
        else:
            yield document


def _section(document: Encoded, number: int, place: slice) -> Encoded:
    asked = None if document.asked is None else document.asked[place]
    return document._replace(name=f"{document.name}/{number}", ids=document.ids[place], asked=asked)


def _sections(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each section, without the whitespace around it."""
    start = 0
    while start < len(text):
        first, last = start + _SECTION, start + _LONGEST
        ends = (at + len(end) for end in _ENDS if (at := text.find(end, first, last)) >= 0)
        end = next(ends, last) if len(text) - start > 2 * _SECTION else len(text)
        section = text[start:end]
        yield end - len(section.lstrip()), start + len(section.rstrip())
        start = end
