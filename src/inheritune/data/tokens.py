"""The tokens of a recipe: from a prepared folder as it is, or from the cache, where each text is prepared once."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from inheritune.config.sections import Data, Source, named_sources
from inheritune.data import store, writer
from inheritune.data.building import Job, Say, build, folder_origin
from inheritune.data.coding import Coding
from inheritune.data.kinds.prepared import Prepared
from inheritune.data.sides import on_validation_side
from inheritune.data.store import Part, Tokens
from inheritune.disk.locks import LOCK
from inheritune.errors import DataError, OutputError
from inheritune.records.entry import Entry
from inheritune.records.prepared import Manifest, PreparedSource

__all__ = ["Tokens", "cache_folder", "on_validation_side", "outside", "prepare", "prepare_folder"]


def prepare(data: Data, coding: Coding, vocabulary: int, tell: Say = lambda _: None) -> tuple[Tokens, Tokens]:
    """Training and validation tokens of a recipe; `tell` is called with messages of progress.

    Ids must lie below `vocabulary`. Raises DataError for unusable text, OutputError for a cache that cannot be written.
    """
    if data.valid is not None:
        _refuse_same(data.train, data.valid)
    folder = _as_prepared(data, coding) or _cached(
        Job(data.train, data.valid or [], data.field, 0.0 if data.valid else data.valid_share, coding), tell
    )
    train, valid = (_asked_for(store.read_side(folder, side), coding) for side in store.SIDES)
    _check_range(train, vocabulary, named_sources(data.train))
    _check_range(valid, vocabulary, named_sources(data.valid or data.train))
    own = store.read_manifest(folder).sources
    valid = replace(valid, shares_books=any(source.held_out == "sections" for source in own))
    return _in_parts(train, data.train, own), _mixed(valid, data.train if data.valid is None else data.valid, own)


def outside(data: Data, name: str, coding: Coding, vocabulary: int, tell: Say = lambda _: None) -> Tokens:
    """The documents of one of the recipe's outside texts, of which the loss covers all tokens."""
    sources, whole = data.outside[name], replace(coding, chat=replace(coding.chat, of_assistant=False))
    folder = _cached(Job([], sources, data.field, 0.0, whole), tell)
    found = store.read_side(folder, "valid")
    _check_range(found, vocabulary, named_sources(sources))
    return _mixed(found, sources, store.read_manifest(folder).sources)


def _asked_for(tokens: Tokens, coding: Coding) -> Tokens:
    """Drop the marks of the assistant's tokens if the loss covers all: text prepared with them serves that too."""
    return tokens if coding.chat.of_assistant else replace(tokens, asked=None)


def prepare_folder(job: Job, dest: Path, tell: Say) -> Manifest:
    """Fill `dest`, or go on filling it, and return its manifest.

    Raises OutputError where it cannot be written, or holds anything but the same preparation.
    """
    _refuse_place(job, dest)
    try:
        build(job, dest, tell)
    except OSError as error:
        raise OutputError(
            f"{str(dest)!r} cannot be written ({error.strerror}): make room or name another; the same command goes on"
        ) from None
    return store.read_manifest(dest)


def _refuse_place(job: Job, dest: Path) -> None:
    if dest.exists() and not dest.is_dir():
        raise OutputError(f"{str(dest)!r} is a file: name a folder")
    if (dest / store.MANIFEST).exists():
        made = store.read_manifest(dest)
        differing = _first_difference(folder_origin(job), made.origin)
        if differing is None and made.chat not in (None, job.coding.chat.fingerprint):
            differing = "chat"
    elif (begun := writer.job_of(dest)) is not None:
        differing = _first_difference(job.about(), begun)
    elif dest.exists() and any(
        entry.stat().st_size for entry in dest.iterdir() if entry.name not in (writer.JOURNAL, LOCK)
    ):
        raise OutputError(f"{str(dest)!r} is not empty and holds no prepared text: name another folder")
    else:
        return
    if differing is not None:
        raise OutputError(f"{str(dest)!r} holds another preparation (its {differing} differs): name another folder")


def _first_difference(wanted: Entry, found: Entry) -> str | None:
    """The name of the first field in which two records of a kind differ."""
    names = type(wanted).model_fields
    return next((name for name in names if getattr(wanted, name) != getattr(found, name)), None)


def cache_folder() -> Path:
    """Where prepared text is kept between runs: `INHERITUNE_CACHE`, or `inheritune` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("INHERITUNE_CACHE") or Path(home) / "inheritune")


def _as_prepared(data: Data, coding: Coding) -> Path | None:
    """The folder of `inheritune prepare` if it is the whole of a recipe's text; else None."""
    if data.valid is not None or len(data.train) > 1 or not Prepared.claims(data.train[0]):
        return None
    folder = Path(data.train[0].source).expanduser()
    manifest = store.read_manifest(folder)
    store.require_same_coding(folder, manifest, coding)
    if manifest.sides.valid.documents < 2:
        raise DataError(f"{str(folder)!r} was prepared without validation documents: give data.valid")
    return folder


def _cached(job: Job, tell: Say) -> Path:
    key = hashlib.blake2b(
        json.dumps([store.FORMAT, job.about().model_dump(mode="json", exclude_unset=True)]).encode(), digest_size=16
    ).hexdigest()
    folder = cache_folder() / "tokens" / key
    try:
        build(job, folder, tell)
    except OSError as error:
        raise OutputError(
            f"the cache {str(folder.parent)!r} cannot be written ({error.strerror}): make room, or set INHERITUNE_CACHE"
        ) from None
    return folder


def _refuse_same(train: list[Source], valid: list[Source]) -> None:
    places = {Path(source.source).resolve(): (source.name, source.split) for source in train}
    for source in valid:
        if places.get(Path(source.source).resolve()) == (source.name, source.split):
            raise DataError(
                f"data.valid is data.train ({source.source!r}): leave data.valid out to hold documents back"
            )


def _in_parts(train: Tokens, sources: list[Source], own: Sequence[PreparedSource]) -> Tokens:
    """The training tokens with the part that each source gave; DataError for a source that gave nothing but repeats."""
    sizes = [[0, 0], *([entry.sizes.train[1], entry.sizes.valid[1]] for entry in own)]
    for entry, before, after in zip(own, sizes, sizes[1:], strict=False):
        if entry.side == "train" and before == after:
            raise DataError(
                f"every document of {entry.source!r} stands in another source or in data.valid too: leave it out of"
                " data.train, or give other text"
            )
    held = [entry.sizes.train for entry in own if entry.side == "train"]
    ends = [tokens - train.begin * documents for tokens, documents, *_ in held]
    parts = (
        Part(repr(source.source), first, last, source.weight)
        for source, first, last in zip(sources, [0, *ends], ends, strict=False)
    )
    return replace(train, parts=tuple(parts))


def _mixed(valid: Tokens, sources: list[Source], own: Sequence[PreparedSource]) -> Tokens:
    """Order the documents such that any first part of them holds every source by its weight."""
    ends = [entry.sizes.valid[1] for entry in own]
    counts = [count for count in np.diff([0, *ends]) if count]
    if len(counts) < 2 or len(counts) != len(sources):
        return valid
    places = np.concatenate(
        [(np.arange(count) + 0.5) / source.weight for count, source in zip(counts, sources, strict=True)]
    )
    order = np.argsort(places, kind="stable")
    all_ends = np.append(valid.starts[1:], len(valid.ids))
    books = None if valid.books is None else valid.books[order]
    return replace(valid, starts=valid.starts[order], ends=all_ends[order], books=books)


def _check_range(tokens: Tokens, vocabulary: int, source: str) -> None:
    largest: Any = tokens.ids.max(initial=0)
    if largest >= vocabulary:
        raise DataError(f"{source} has token {largest}, beyond the model's {vocabulary} embeddings: wrong tokenizer?")
