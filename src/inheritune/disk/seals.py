"""Seals of the files that a run reads back: a digest of the content, its path in the run folder, and the folder's own mark.

A seal detects a flipped bit, a file of another run and a file of another round. A folder is marked by its `made_of.json`; outside
such a folder nothing is sealed, and content without a seal, as earlier versions wrote it, is accepted.
"""

import re
from hashlib import blake2b
from pathlib import Path

from inheritune.disk.files import MARK

MARKED_BY = "made_of.json"
_IN_JSON = re.compile(rb',\s+"seal": "([0-9a-f]{16})"\s*\}\s*\Z')
_BEING_MADE = re.compile(rf"\.([^/]+){re.escape(MARK)}/new(?=/)")


class BrokenSealError(ValueError):
    """The content read is not what was written at this path."""

    def __init__(self) -> None:
        super().__init__("it is not what was written there")


def sealing(path: Path) -> bytes:
    """The key of a file's seals, from its path in the run folder and the folder's mark; empty if no folder above is marked."""
    if path.name == MARKED_BY:
        return MARKED_BY.encode()
    root = next((folder for folder in path.parents if (folder / MARKED_BY).is_file()), None)
    if root is None:
        return b""
    # A file in a staging folder is sealed for the path that it will have.
    inside = _BEING_MADE.sub(r"\1", path.relative_to(root).as_posix())
    return blake2b((root / MARKED_BY).read_bytes() + b"\0" + inside.encode()).digest()


def seal(content: bytes, key: bytes) -> bytes:
    """The seal of `content` in hexadecimal; empty without a key."""
    return blake2b(content, key=key, digest_size=8).hexdigest().encode() if key else b""


def sealed(text: str, key: bytes) -> str:
    """A JSON object with its seal as its last value."""
    head, tail = text[: text.rindex("}")].rstrip(), text[text.rindex("}") + 1 :]
    gap = "\n" if "\n" in head else ""
    return f'{head},{gap} "seal": "{seal(head.encode(), key).decode()}"{gap}}}{tail}' if key else text


def bears_seal(content: bytes) -> bool:
    """Whether a JSON object has a seal, be it the right one or not."""
    return _IN_JSON.search(content) is not None


def unsealed(content: bytes, key: bytes) -> bytes:
    """The JSON object without its seal. Raises BrokenSealError if its content or its path has changed."""
    if not (found := _IN_JSON.search(content)):
        return content
    head = content[: found.start()]
    if seal(head, key) not in (b"", found[1]):
        raise BrokenSealError
    return head + b"}"
