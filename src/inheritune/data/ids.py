"""Documents as token ids: tokens as they are, and text through the tokenizers library on all cores."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from inheritune.config.sections import Source
from inheritune.data import corpora
from inheritune.data.coding import Coding
from inheritune.data.documents import Document, Encoded
from inheritune.data.kinds import source_kind
from inheritune.data.sections import ids_in_sections, in_sections
from inheritune.errors import DataError

# The size of a batch, in characters or documents: it is tokenised at once while the next is read.
_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 2 << 20, 4096
_AT_WORK = 2


def encoded(source: Source, field: str, coding: Coding, skip: int = 0, by_section: bool = False) -> Iterator[Encoded]:
    """A source's documents as ids, each closed by `end` and without a begin of text, from document `skip` on.

    `by_section`: long ones are cut into sections, each a document of its own. Raises DataError if the loss covers the assistant's turns
    alone and a document does not mark them.
    """
    found: Iterator[Encoded]
    of_tokens = source_kind(source).encoded(coding)
    if of_tokens is not None:
        found = islice(ids_in_sections(of_tokens) if by_section else of_tokens, skip, None)
    else:
        documents = corpora.documents(source, field, coding.chat)
        found = _tokenised(islice(in_sections(documents) if by_section else documents, skip, None), coding)
    return _asked_for(found, source) if coding.chat.of_assistant else found


def _asked_for(documents: Iterator[Encoded], source: Source) -> Iterator[Encoded]:
    for document in documents:
        if document.asked is None:
            raise DataError(
                f"{document.name!r} in {source.source!r} does not tell which tokens are the assistant's, for which alone data.loss_on asks:"
                " give rows with messages, or data.loss_on: all"
            )
        yield document


def _tokenised(documents: Iterator[Document], coding: Coding) -> Iterator[Encoded]:
    """Tokenise two batches at once, so that no core idles at a batch's end, while others are read and written."""
    waiting: deque[Future[list[Encoded]]] = deque()
    with ThreadPoolExecutor(_AT_WORK) as threads:
        for batch in _batches(documents):
            waiting.append(threads.submit(_encode, batch, coding))
            if len(waiting) > _AT_WORK:
                yield from waiting.popleft().result()
        for last in waiting:
            yield from last.result()


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    held: list[Document] = []
    size = 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size >= _BATCH_CHARACTERS or len(held) == _BATCH_DOCUMENTS:
            yield held
            held, size = [], 0
    if held:
        yield held


def _encode(batch: list[Document], coding: Coding) -> list[Encoded]:
    try:
        return coding.encode(batch)
    except (TypeError, UnicodeEncodeError):
        raise DataError(f"{_surrogate(batch)!r} holds half of a surrogate pair and so is no text: mend it") from None


def _surrogate(batch: list[Document]) -> str:
    return next((d.name for d in batch if any("\ud800" <= letter <= "\udfff" for letter in d.text)), batch[0].name)
