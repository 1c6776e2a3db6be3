"""Turn sources into a folder of tokens: split by book or section, exact repeats removed, in bounded memory, resumable after a kill.

Held in memory are four batches of 2 MB of text and their tokens (about 100 bytes per token while it is tokenised; a document of
32 MB, the longest, takes 1 GB), and about 100 bytes for each distinct document (its digest). A chunk is whole on the disk before
the journal says so.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from inheritune.config.sections import Source, named_sources
from inheritune.data import sides, store
from inheritune.data.coding import Coding
from inheritune.data.corpora import tokens_in_files
from inheritune.data.documents import Encoded
from inheritune.data.ids import encoded
from inheritune.data.kinds import source_kind
from inheritune.data.store import MANIFEST
from inheritune.data.writer import HeldOut, Writer
from inheritune.disk.files import digest
from inheritune.disk.folders import sweep
from inheritune.disk.locks import hold
from inheritune.errors import DataError
from inheritune.records.prepared import ASSISTANT, JournalStart, NamedSource, Origin, SourceFile
from inheritune.words import plural

_CHUNK = 4 << 20  # tokens
_SECONDS = 1.0  # between two messages of progress
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is prepared: sources for both sides, or a share of the training documents for validation.

    `remedy` names what its user can give if too few documents are held out.
    """

    train: list[Source]
    valid: list[Source]
    field: str
    share: float
    coding: Coding
    remedy: str = "data.valid, a larger data.valid_share"

    def about(self) -> JournalStart:
        """Everything that the resulting bytes depend on."""
        return JournalStart(
            format=store.FORMAT,
            tokenizer=store.tokenizer_fingerprint(self.coding.tokenizer),
            end=self.coding.end,
            **_begin(self.coding),
            **_loss_on(self.coding),
            **({"chat": self.coding.chat.fingerprint} if self.coding.chat.template else {}),
            field=self.field,
            valid_share=self.share,
            train=[self._source(source) for source in self.train],
            valid=[self._source(source) for source in self.valid],
        )

    def _source(self, source: Source) -> list[str | None]:
        return [source_kind(source).fingerprint(), source.field, source.name, source.split, source.revision]


def build(job: Job, folder: Path, tell: Say) -> None:
    """Fill `folder`, or go on filling it; do nothing if it is finished. A second process waits for the first.

    Raises DataError for unusable text (what was written is removed, unless a source is streamed), OSError if the folder cannot be written.
    """
    if (folder / MANIFEST).exists():
        return
    with _held(folder):
        if (folder / MANIFEST).exists():
            return
        writer = Writer(folder, job.coding.dtype, job.about())
        try:
            _fill(job, writer, tell)
            _require_both_sides(job, writer)
            writer.finish(folder_origin(job), job.coding.vocabulary, job.coding.chat.fingerprint)
        except DataError:
            # A stream that broke off can go on from here; a file that is wrong has to change first, so it starts anew.
            if not any(source_kind(source).streamed for source in (*job.train, *job.valid)):
                writer.remove()
            raise
        finally:
            writer.close()


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    held = hold(folder, wait=True)
    assert held is not None
    try:
        sweep(folder)
        yield
    finally:
        held.release()


def _fill(job: Job, writer: Writer, tell: Say) -> None:
    sources = [*job.valid, *job.train]
    filling = _Filling(job, writer, tell)
    for number in range(writer.state.source, len(sources)):
        share = None if number < len(job.valid) else 0.0 if job.valid else job.share
        filling.read(sources[number], share)
        state = writer.state
        if share and not state.by_section and state.has_long and state.books_held_out < sides.ENOUGH:
            writer.again_by_section()
            filling = _Filling(job, writer, tell)
            filling.read(sources[number], share)
        by: HeldOut = "sections" if writer.state.by_section else "books"
        writer.end_source(by if share else None)


class _Filling:
    """Puts documents on their side of the split; repeats of a document on either side are skipped."""

    def __init__(self, job: Job, writer: Writer, tell: Say):
        self.job, self.writer, self.tell = job, writer, tell
        self.opening = np.asarray(job.coding.begin.ids, job.coding.dtype).tobytes()
        self.seen = {_digest(row.tobytes()) for row in writer.documents()}
        self.saved = self.before = writer.tokens
        self.began = self.told = time.monotonic()
        self.about = tokens_in_files([*job.valid, *job.train]) or 0

    def read(self, source: Source, share: float | None) -> None:
        """Add a source's documents from where the journal stands; `share` of them is held out, or all if it is None."""
        state = self.writer.state
        for document in encoded(source, self.job.field, self.job.coding, state.read, state.by_section):
            state.count(document)
            held_out = share is None or self._on_validation_side(document, share)
            row = self.opening + document.ids.astype(self.job.coding.dtype, copy=False).tobytes()
            if (digest := _digest(row)) in self.seen:
                state.repeats += 1
                continue
            self.seen.add(digest)
            self.writer.add("valid" if held_out else "train", row, self._asked(document))
            if self.writer.tokens - self.saved >= _CHUNK:
                self.writer.save()
                self.saved = self.writer.tokens
            self._say(source)

    def _asked(self, document: Encoded) -> bytes:
        return b"" if document.asked is None else bytes(len(self.job.coding.begin)) + document.asked.tobytes()

    def _on_validation_side(self, document: Encoded, share: float) -> bool:
        state = self.writer.state
        if state.by_section:
            return sides.section_on_validation_side(document.book, state.section, share)
        return sides.on_validation_side(document.book, share)

    def _say(self, source: Source) -> None:
        if (now := time.monotonic()) - self.told >= _SECONDS:
            self.told, done = now, self.writer.tokens
            rate = (done - self.before) / (now - self.began)
            whole = f" of about {float(f'{self.about:.2g}'):,.0f}" if done < self.about else ""
            self.tell(
                f"{named_sources([source])}: {plural(len(self.seen), 'document')}, {done:,}{whole} tokens, {rate:,.0f} tokens/s"
            )


def _digest(row: bytes) -> bytes:
    return hashlib.blake2b(row, digest_size=16).digest()


def _require_both_sides(job: Job, writer: Writer) -> None:
    train, valid = (writer.state.sizes[side][1] for side in store.SIDES)
    if job.valid and job.train and not train:
        raise DataError(
            f"every document of data.train ({named_sources(job.train)}) stands in data.valid too: give other text"
        )
    if not job.valid and (train < 1 or (valid < 2 and job.share)):
        raise DataError(
            f"{named_sources(job.train)} has {train + valid} document(s), of which a share of {job.share:g} leaves {train} for training"
            f" and {valid} for validation, too few: give {job.remedy}, or more text"
        )


def folder_origin(job: Job) -> Origin:
    """What a folder is made from, without date or machine, so that the same text gives the same bytes."""
    valid = [_named(source, "valid", job.field) for source in job.valid]
    return Origin(
        tokenizer=store.tokenizer_fingerprint(job.coding.tokenizer),
        end=job.coding.end,
        **_begin(job.coding),
        **_loss_on(job.coding),
        valid_share=job.share,
        sources=[*valid, *(_named(source, "train", job.field) for source in job.train)],
    )


def _begin(coding: Coding) -> dict[str, list[int]]:
    """The field `begin`, only if there is a begin, so that text prepared before the field existed stays as it is."""
    return {"begin": list(coding.begin.ids)} if coding.begin else {}


def _loss_on(coding: Coding) -> dict[str, Literal["assistant"]]:
    """The field `loss_on`, only if it is not the default, for the same reason."""
    return {"loss_on": ASSISTANT} if coding.chat.of_assistant else {}


def _named(source: Source, side: Literal["train", "valid"], field: str) -> NamedSource:
    named = {"field": field, **source.model_dump(exclude={"weight"}, exclude_none=True)}
    if files := [SourceFile(name=name, sha256=digest(path)) for name, path in source_kind(source).contents()]:
        named["files"] = files
    return NamedSource(**named, side=side)
