"""Sources to a folder of tokens: split by document, exact repeats removed, in bounded memory, and going on after a kill.

What is held at once: four batches of 2 MB of text and their tokens (about 100 bytes a token while it is tokenised; a document
of 32 MB, the longest, takes 1 GB), and 100 bytes or so for each distinct document (its digest). A chunk is whole on the disk before the journal says so.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inheritune.config.sections import Source, told
from inheritune.data import store
from inheritune.data.coding import Coding
from inheritune.data.ids import encoded
from inheritune.data.kinds import kind_of
from inheritune.data.store import MANIFEST, Writer
from inheritune.disk.files import digest
from inheritune.disk.folders import sweep
from inheritune.disk.locks import hold
from inheritune.errors import DataError

_CHUNK = 4 << 20  # tokens
_SECONDS = 1.0  # between two words on how far it is
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """What is prepared: sources for both sides, or a share of the training documents for validation.

    `remedy` is what its user can give where too few documents are held out.
    """

    train: list[Source]
    valid: list[Source]
    field: str
    share: float
    coding: Coding
    remedy: str = "data.valid, a larger data.valid_share"

    def about(self) -> dict[str, Any]:
        """Everything that the resulting bytes depend on."""
        return {
            "tokenizer": store.tokenizer_fingerprint(self.coding.tokenizer),
            "end": self.coding.end,
            **_begin(self.coding),
            "field": self.field,
            "valid_share": self.share,
            "train": [self._source(source) for source in self.train],
            "valid": [self._source(source) for source in self.valid],
        }

    def _source(self, source: Source) -> list[str | None]:
        return [kind_of(source).fingerprint(), source.field, source.name, source.split, source.revision]


def build(job: Job, folder: Path, tell: Tell) -> None:
    """Fill `folder`, or go on filling it; nothing is done where it is finished. A second process waits for the first.

    Raises DataError for text that is no use (what was written is removed), OSError where the folder cannot be written.
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
            writer.finish(_manifest(job, writer))
        except DataError:
            # A stream that broke off goes on from here; a file that is wrong has to change first.
            if not any(kind_of(source).streamed for source in (*job.train, *job.valid)):
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


def _fill(job: Job, writer: Writer, tell: Tell) -> None:
    state, sources = writer.state, [*job.valid, *job.train]
    opening = np.asarray(job.coding.begin.ids, job.coding.dtype).tobytes()
    seen = {_digest(row.tobytes()) for row in writer.documents()}
    saved = before = _tokens(writer)
    began = last = time.monotonic()
    for number in range(state.source, len(sources)):
        for name, _, ids in encoded(sources[number], job.field, job.coding, state.read):
            state.read += 1
            row = opening + ids.astype(job.coding.dtype, copy=False).tobytes()
            if (digest := _digest(row)) in seen:
                state.repeats += 1
                continue
            seen.add(digest)
            held_out = number < len(job.valid) or (not job.valid and on_validation_side(name, job.share))
            writer.add("valid" if held_out else "train", row)
            if _tokens(writer) - saved >= _CHUNK:
                writer.save()
                saved = _tokens(writer)
            if (now := time.monotonic()) - last >= _SECONDS:
                last, done = now, _tokens(writer)
                rate = (done - before) / (now - began)
                tell(f"{told([sources[number]])}: {len(seen):,} documents, {done:,} tokens, {rate:,.0f} tokens/s")
        sizes = {side: list(size) for side, size in state.sizes.items()}
        state.ends.append({"read": state.read, "sizes": sizes})
        state.source, state.read = number + 1, 0
        writer.save()


def _tokens(writer: Writer) -> int:
    return sum(tokens for tokens, _ in writer.state.sizes.values())


def _digest(row: bytes) -> bytes:
    return hashlib.blake2b(row, digest_size=16).digest()


def on_validation_side(name: str, share: float) -> bool:
    """Whether a document is held out: by a hash of its name alone, so that a new version leaves it on its side."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


def _require_both_sides(job: Job, writer: Writer) -> None:
    train, valid = (writer.state.sizes[side][1] for side in store.SIDES)
    if job.valid and job.train and not train:
        raise DataError(f"every document of data.train ({told(job.train)}) stands in data.valid too: give other text")
    if not job.valid and (train < 1 or (valid < 2 and job.share)):
        raise DataError(
            f"{told(job.train)} has {train + valid} document(s), of which a share of {job.share:g} leaves {train} for training"
            f" and {valid} for validation, too few: give {job.remedy}, or more text"
        )


def _manifest(job: Job, writer: Writer) -> dict[str, Any]:
    origin, ends = origin_of(job), writer.state.ends
    sources = [{**source, **end} for source, end in zip(origin["sources"], ends, strict=True)]
    return {**origin, "repeats": writer.state.repeats, "vocabulary": job.coding.vocabulary, "sources": sources}


def origin_of(job: Job) -> dict[str, Any]:
    """What a folder is made from. No date and no machine: the same text gives the same bytes."""
    sides = ["valid"] * len(job.valid) + ["train"] * len(job.train)
    return {
        "tokenizer": store.tokenizer_fingerprint(job.coding.tokenizer),
        "end": job.coding.end,
        **_begin(job.coding),
        "valid_share": job.share,
        "sources": [
            {**_told(source, job.field), "side": side}
            for source, side in zip([*job.valid, *job.train], sides, strict=True)
        ],
    }


def _begin(coding: Coding) -> dict[str, list[int]]:
    """Named only where there is one, so that text prepared before it was named stays as it is."""
    return {"begin": list(coding.begin.ids)} if coding.begin else {}


def _told(source: Source, field: str) -> dict[str, Any]:
    named = {"field": field, **source.model_dump(exclude={"weight"}, exclude_none=True)}
    contents = [{"name": name, "sha256": digest(path)} for name, path in kind_of(source).contents()]
    return {**named, "files": contents} if contents else named
