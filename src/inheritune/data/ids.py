"""Documents as token ids: nanoGPT's `.bin` as it is, and text through the tokenizers library on all cores."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from inheritune.config.sections import Source
from inheritune.data import corpora, store
from inheritune.data.documents import Document
from inheritune.data.files import IDS, File, readable
from inheritune.errors import DataError
from inheritune.models.begin import Begin

# A batch is tokenised at once while the next is read: so much text, or so many documents.
_BATCH_CHARACTERS, _BATCH_DOCUMENTS = 2 << 20, 4096
_AT_WORK = 2
_AT_ONCE = 1 << 24
# The header of .bin files in the manner of llm.c: 256 four-byte integers, of which the first three are these and a count.
_MAGIC, _HEADER = 20240520, 1024

Named = tuple[str, np.ndarray]


@dataclass(frozen=True)
class Coding:
    """How text becomes ids: a tokenizer without its own cutting and padding, the id that ends a document, what opens one."""

    tokenizer: Tokenizer
    end: int
    begin: Begin

    @classmethod
    def of(cls, tokenizer: Tokenizer, end: int, begin: Begin | None = None) -> "Coding":
        """A coding of its own, whatever truncation and padding were saved with `tokenizer`."""
        own = Tokenizer.from_str(tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        return cls(own, end, begin or Begin())

    @property
    def vocabulary(self) -> int:
        """One more than the largest id that can come out."""
        return max(self.tokenizer.get_vocab_size(), self.end + 1)

    @property
    def dtype(self) -> np.dtype:
        """Two bytes an id where the vocabulary allows."""
        return np.dtype("<u2" if self.vocabulary <= 1 << 16 else "<u4")


def encoded(source: Source, field: str, coding: Coding, skip: int = 0) -> Iterator[Named]:
    """A source's documents as names and ids, each closed by `end` and without a begin of text, from document `skip` on."""
    if corpora.is_prepared(source):
        yield from islice(_prepared(source, coding), skip, None)
    elif all_ids := _bins(source):
        yield from islice((named for file in all_ids for named in read_bin(file, coding.end, coding.begin)), skip, None)
    else:
        yield from _tokenised(islice(corpora.documents(source, field), skip, None), coding)


def _bins(source: Source) -> list[File]:
    """The `.bin` files of a source of nothing else."""
    if not corpora.is_plain(source):
        return []
    found = corpora.plain_files(source)
    return found if all(file.kind in IDS for file in found) else []


def _prepared(source: Source, coding: Coding) -> Iterator[Named]:
    folder = Path(source.source).expanduser()
    manifest = store.read_manifest(folder)
    require_same_tokenizer(folder, manifest, coding)
    for side in store.SIDES:
        tokens = store.read(folder, side)
        for number in range(len(tokens.starts)):
            yield f"{folder.name}/{side}#{number}", _bare(tokens.document(number), coding.end, coding.begin)


def require_same_tokenizer(folder: Path, manifest: dict, coding: Coding) -> None:
    """Raise DataError where prepared tokens were made by another tokenizer."""
    if manifest["tokenizer"] != store.tokenizer_fingerprint(coding.tokenizer) or manifest["end"] != coding.end:
        raise DataError(
            f"{str(folder)!r} was prepared with another tokenizer than the model's: prepare it again with it"
        )


def read_bin(file: File, end: int, begin: Begin | None = None) -> Iterator[Named]:
    """The documents of a nanoGPT `.bin`, with or without header: two bytes an id, each closed or opened by `end`, or opened by `begin`."""
    begin = begin or Begin()
    with readable(file.path):
        ids = _mapped(file.path)
    number = first = 0
    for at in range(0, len(ids), _AT_ONCE):
        for cut in _cuts(ids[at : at + _AT_ONCE], end, begin) + at:
            if cut > first:
                yield f"{file.name}#{number}", _bare(ids[first:cut], end, begin)
                number, first = number + 1, int(cut)
    if first < len(ids):
        yield f"{file.name}#{number}", _bare(ids[first:], end, begin)


def _cuts(ids: np.ndarray, end: int, begin: Begin) -> np.ndarray:
    """Where documents part: after each `end`, before each `begin`."""
    after = np.flatnonzero(ids == end) + 1
    if not begin.ids or begin.ids[0] == end:
        return after
    return np.union1d(after, np.flatnonzero(ids == begin.ids[0]))


def _bare(ids: np.ndarray, end: int, begin: Begin) -> np.ndarray:
    """A document without the begin that it may open with, and closed, where only the next one's begin ended it."""
    if not begin.ids:
        return ids
    text = begin.without(ids[:-1] if ids[-1] == end else ids)
    return np.append(text, np.asarray(end, ids.dtype))


def _mapped(path: Path) -> np.ndarray:
    size = path.stat().st_size
    if size % 2:
        raise DataError(
            f"{str(path)!r} has an odd number of bytes, so it is no row of two-byte ids as nanoGPT writes them"
        )
    header = np.fromfile(path, dtype="<i4", count=3)
    if size < _HEADER or header[0] != _MAGIC:
        return np.memmap(path, dtype="<u2", mode="r")
    if header[1] != 1 or header[2] != (size - _HEADER) // 2 or size == _HEADER:
        raise DataError(
            f"{str(path)!r} has a header of version {header[1]} that promises {header[2]} tokens, and holds"
            f" {(size - _HEADER) // 2} of two bytes: fetch it again"
        )
    return np.memmap(path, dtype="<u2", mode="r", offset=_HEADER)


def _tokenised(documents: Iterator[Document], coding: Coding) -> Iterator[Named]:
    """Tokenises two batches at once on all cores, so that none idles at a batch's end, while others are read and written."""
    waiting: deque[Future[list[Named]]] = deque()
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


def _encode(batch: list[Document], coding: Coding) -> list[Named]:
    texts = [document.text for document in batch]
    try:
        encodings = coding.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    except (TypeError, UnicodeEncodeError):
        raise DataError(f"{_surrogate(batch)!r} holds half of a surrogate pair and so is no text: mend it") from None
    return [(document.name, _closed(encoding.ids, coding)) for document, encoding in zip(batch, encodings, strict=True)]


def _closed(ids: list[int], coding: Coding) -> np.ndarray:
    ids.append(coding.end)
    return _bare(np.fromiter(ids, dtype=coding.dtype, count=len(ids)), coding.end, coding.begin)


def _surrogate(batch: list[Document]) -> str:
    return next((d.name for d in batch if any("\ud800" <= letter <= "\udfff" for letter in d.text)), batch[0].name)
