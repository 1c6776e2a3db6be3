"""Documents as token shards on disk: memory-mapped, with the place where each document starts.

A shard is `<name>.bin` (little-endian unsigned integers, 2 or 4 bytes, as nanoGPT writes them) beside
`<name>.starts.npy` (the index of each document's first token). Both sides of a split come from `prepare`.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from inheritune.config import Data, Source, told
from inheritune.data import corpora
from inheritune.data.corpora import Document
from inheritune.errors import DataError, OutputError

_BATCH = 256


@dataclass(frozen=True)
class Tokens:
    """Token ids in one row (`ids`, memory-mapped) and where each document starts in it (`starts`)."""

    ids: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def document(self, index: int) -> np.ndarray:
        """The tokens of one document."""
        end = self.starts[index + 1] if index + 1 < len(self.starts) else len(self.ids)
        return self.ids[self.starts[index] : end]


def prepare(data: Data, tokenizer: Tokenizer, end: int, vocabulary: int) -> tuple[Tokens, Tokens]:
    """Training and validation tokens of a recipe, from the cache where the same text was tokenised before.

    `end` is the id that closes each document; ids must lie below `vocabulary`. Raises DataError for unusable text.
    """
    key = _key(data, tokenizer, end)
    folder = cache_folder() / "tokens" / key
    if not (folder / "manifest.json").exists():
        _build(data, tokenizer, end, folder)
    train, valid = read(folder / "train"), read(folder / "valid")
    _check_range(train, vocabulary, told(data.train))
    _check_range(valid, vocabulary, told(data.valid or data.train))
    return train, valid


def cache_folder() -> Path:
    """Where prepared text is kept between runs: `INHERITUNE_CACHE`, or `inheritune` in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("INHERITUNE_CACHE") or Path(home) / "inheritune")


def read(path: Path) -> Tokens:
    """A shard written by `write`, memory-mapped."""
    starts = np.load(path.with_suffix(".starts.npy"), allow_pickle=False)
    width = json.loads(path.with_suffix(".json").read_text())["bytes"]
    return Tokens(np.memmap(path.with_suffix(".bin"), dtype=f"<u{width}", mode="r"), starts)


def write(path: Path, documents: Iterable[list[int]], vocabulary: int) -> None:
    """Documents' ids as a shard; two bytes an id where the vocabulary allows."""
    width = 2 if vocabulary <= 1 << 16 else 4
    starts, total = [], 0
    with path.with_suffix(".bin").open("wb") as file:
        for ids in documents:
            starts.append(total)
            total += len(ids)
            file.write(np.asarray(ids, dtype=f"<u{width}").tobytes())
    np.save(path.with_suffix(".starts.npy"), np.asarray(starts, dtype=np.int64))
    path.with_suffix(".json").write_text(json.dumps({"bytes": width, "tokens": total, "documents": len(starts)}))


def read_bin(source: str, end: int) -> list[np.ndarray]:
    """The documents of a nanoGPT `.bin` (two bytes an id, each document closed or opened by `end`)."""
    path = corpora.existing_file(source)
    if path.stat().st_size % 2:
        raise DataError(
            f"{source!r} has an odd number of bytes, so it is no row of two-byte ids as nanoGPT writes them"
        )
    ids = np.memmap(path, dtype="<u2", mode="r")
    cuts = np.flatnonzero(ids == end) + 1
    return [piece for piece in np.split(ids, cuts) if len(piece)]


def on_validation_side(name: str, share: float) -> bool:
    """Whether a document is held out: by a hash of its name alone, so that a new version leaves it on its side."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < share


def _key(data: Data, tokenizer: Tokenizer, end: int) -> str:
    sources = [(corpora.fingerprint(source.source), str(source)) for source in (*data.train, *(data.valid or []))]
    parts = [data.field, str(data.valid_share), str(end), tokenizer.to_str(), sources]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def _build(data: Data, tokenizer: Tokenizer, end: int, folder: Path) -> None:
    beside = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        train, valid = _sides(data, tokenizer, end)
        vocabulary = max(tokenizer.get_vocab_size(), end + 1)
        write(beside / "train", train, vocabulary)
        write(beside / "valid", valid, vocabulary)
        (beside / "manifest.json").write_text(json.dumps({"train": told(data.train), "valid": told(data.valid or [])}))
        if not folder.exists():
            beside.rename(folder)
    except OSError as error:
        raise OutputError(
            f"the cache {str(folder.parent)!r} cannot be written ({error.strerror}): set INHERITUNE_CACHE"
        ) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _sides(data: Data, tokenizer: Tokenizer, end: int) -> tuple[Iterable[list[int]], Iterable[list[int]]]:
    if data.valid is not None:
        _refuse_same(data.train, data.valid)
        valid = list(_encoded(data.valid, data.field, tokenizer, end))
        held = {_digest(ids) for _, ids in valid}
        train = ((n, ids) for n, ids in _encoded(data.train, data.field, tokenizer, end) if _digest(ids) not in held)
        return (ids for _, ids in train), (ids for _, ids in valid)
    return _split(_encoded(data.train, data.field, tokenizer, end), data)


def _refuse_same(train: list[Source], valid: list[Source]) -> None:
    places = {Path(source.source).resolve() for source in train}
    for source in valid:
        if Path(source.source).resolve() in places:
            raise DataError(
                f"data.valid is data.train ({source.source!r}): leave data.valid out to hold documents back"
            )


def _split(encoded: Iterator[tuple[str, list[int]]], data: Data) -> tuple[list[list[int]], list[list[int]]]:
    """Each distinct document on one side, by the hash of its name."""
    seen: set[bytes] = set()
    sides: tuple[list[list[int]], list[list[int]]] = ([], [])
    for name, ids in encoded:
        digest = _digest(ids)
        if digest not in seen:
            seen.add(digest)
            sides[on_validation_side(name, data.valid_share)].append(ids)
    if len(sides[0]) < 1 or len(sides[1]) < 2:
        raise DataError(
            f"{told(data.train)} has {len(seen)} documents, too few to hold {data.valid_share:.0%} back:"
            " give data.valid, a larger data.valid_share, or more text"
        )
    return sides


def _digest(ids: list[int]) -> bytes:
    return hashlib.blake2b(np.asarray(ids, dtype="<u4").tobytes(), digest_size=16).digest()


def _encoded(sources: list[Source], field: str, tokenizer: Tokenizer, end: int) -> Iterator[tuple[str, list[int]]]:
    for source in sources:
        yield from _encoded_one(source.source, source.field or field, tokenizer, end)


def _encoded_one(source: str, field: str, tokenizer: Tokenizer, end: int) -> Iterator[tuple[str, list[int]]]:
    if source.endswith(".bin"):
        for number, piece in enumerate(read_bin(source, end)):
            yield f"{Path(source).name}#{number}", piece.tolist()
        return
    for batch in _batched(corpora.documents(source, field)):
        for document, encoding in zip(
            batch, tokenizer.encode_batch_fast([d.text for d in batch], add_special_tokens=False), strict=True
        ):
            yield document.name, [*encoding.ids, end]


def _batched(documents: Iterator[Document]) -> Iterator[list[Document]]:
    while batch := list(islice(documents, _BATCH)):
        yield batch


def _check_range(tokens: Tokens, vocabulary: int, source: str) -> None:
    largest: Any = tokens.ids.max(initial=0)
    if largest >= vocabulary:
        raise DataError(f"{source} has token {largest}, beyond the model's {vocabulary} embeddings: wrong tokenizer?")
