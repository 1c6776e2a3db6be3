"""What a run reads back carries a seal: a digest of the content, of its place in the run folder, and of the folder's own mark.

So a bit that flipped, a file of another run and a file of another round are told apart from what was written. Folders are marked by
their `made_of.json`; outside of such a folder nothing is sealed, and what bears no seal, as earlier versions wrote it, is taken as it is.
"""

import re
from hashlib import blake2b
from pathlib import Path

from inheritune.disk.files import MARK

MARKED_BY = "made_of.json"
_IN_JSON = re.compile(rb',\s+"seal": "([0-9a-f]{16})"\s*\}\s*\Z')
_BEING_MADE = re.compile(rf"\.([^/]+){re.escape(MARK)}/new(?=/)")


class BrokenSealError(ValueError):
    """What is read is not what was written in this place."""

    def __init__(self) -> None:
        super().__init__("it is not what was written there")


def sealing(path: Path) -> bytes:
    """The key of a file's seals: its place in its run folder and the folder's mark; empty where no folder above is marked."""
    if path.name == MARKED_BY:
        return MARKED_BY.encode()
    root = next((folder for folder in path.parents if (folder / MARKED_BY).is_file()), None)
    if root is None:
        return b""
    # A file of a folder that is being made is sealed for the place that it will have.
    inside = _BEING_MADE.sub(r"\1", path.relative_to(root).as_posix())
    return blake2b((root / MARKED_BY).read_bytes() + b"\0" + inside.encode()).digest()


def seal(content: bytes, key: bytes) -> bytes:
    """The seal of a content, in hexadecimal; nothing without a key."""
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
    """The JSON object as it was before it was sealed. Raises BrokenSealError where it is another, or stood elsewhere."""
    if not (found := _IN_JSON.search(content)):
        return content
    head = content[: found.start()]
    if seal(head, key) not in (b"", found[1]):
        raise BrokenSealError
    return head + b"}"
