"""A run folder is bound to the content that it was begun with: text, tokenizer and reference. `config.yaml` binds its recipe."""

import hashlib
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from tokenizers import Tokenizer

from inheritune.config.sections import Data
from inheritune.data import tokens
from inheritune.data.coding import Coding
from inheritune.data.store import Tokens, tokenizer_fingerprint
from inheritune.disk.files import digest, writing
from inheritune.errors import OutputError
from inheritune.records.made_of import FileMark, MadeOf
from inheritune.runs.folder import BEFORE_BOUND

READ_WHOLE = 256 << 20  # bytes up to which a reference's files are hashed whole
_SAMPLES, _SAMPLE = 64, 1 << 16  # windows of a larger file, and bytes of each
_DECISIVE = re.compile(r"config\.json|.*\.safetensors(\.index\.json)?|.*\.py")


def texts_of(data: Data, coding: Coding, vocabulary: int, tell: tokens.Say) -> dict[str, Tokens]:
    """All texts of a recipe as ids below `vocabulary`, each by the key that names it. Raises what `tokens.prepare` raises."""
    train, valid = tokens.prepare(data, coding, vocabulary, tell)
    outside = {f"data.outside.{name}": tokens.outside(data, name, coding, vocabulary, tell) for name in data.outside}
    return {"data.train": train, "data.valid": valid, **outside}


def made_of(texts: Mapping[str, Tokens], tokenizer: Tokenizer, reference: Path | None = None) -> MadeOf:
    """The content of texts by name, of a tokenizer, and of a reference's folder or GGUF file."""
    return MadeOf(
        texts={name: text.digest for name, text in texts.items()},
        tokenizer=tokenizer_fingerprint(tokenizer),
        reference={} if reference is None else marks(reference),
    )


def bind(folder: Path, content: MadeOf) -> list[str]:
    """Write down what a new run folder is made of. Raises OutputError, which names the part, if a folder was begun with other content.

    Returns a caution for a folder that was begun without this record, since it cannot be checked.
    """
    path = folder / MadeOf.NAME
    if path.exists():
        if found := list(MadeOf.load(path).differences(content)):
            raise OutputError(
                f"{str(folder)!r} was begun with other content: {', '.join(found)} changed since: bring it back as it was,"
                " or name another --out"
            )
        return []
    if is_begun(folder):
        return [
            f"{str(folder)!r} was begun without {MadeOf.NAME}, so nothing tells whether its text, tokenizer and reference are still those"
            " that it was begun with"
        ]
    with writing(path):
        content.model_copy(update={"mark": secrets.token_hex(8)}).save(path)
    return []


def is_begun(folder: Path) -> bool:
    """Whether a folder is bound, or holds anything that was made of its content."""
    return any(
        not entry.name.startswith(".") and entry.name not in (*BEFORE_BOUND, "tokenizer") for entry in folder.iterdir()
    )


def marks(place: Path) -> dict[str, FileMark]:
    """Identify the files that decide what a model computes, in its folder or as one GGUF file: a mark for each name."""
    paths = sorted(path for path in place.iterdir() if _DECISIVE.fullmatch(path.name)) if place.is_dir() else [place]
    whole = sum(path.stat().st_size for path in paths) <= READ_WHOLE
    return {path.name: _mark(path, whole or path.suffix in (".json", ".py")) for path in paths}


def _mark(path: Path, whole: bool) -> FileMark:
    status = path.stat()
    if whole:
        return FileMark(size=status.st_size, digest=digest(path))
    seen = hashlib.sha256()
    with path.open("rb") as file:
        for number in range(_SAMPLES):
            file.seek((status.st_size - _SAMPLE) * number // (_SAMPLES - 1))
            seen.update(file.read(_SAMPLE))
    return FileMark(size=status.st_size, digest=seen.hexdigest(), changed=status.st_mtime_ns)
