"""A file stands whole or not at all: written beside its place, synced, moved there, and its folder synced.

What is made beside a place has a name of its own with MARK in it, which nobody else uses. Nothing is written through a link: a
file that is moved to its place replaces a link there, and a file that is added to may be none (`no_link`).
"""

import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError

from inheritune.errors import OutputError

MARK = ".inheritune"
MOST_READ = 256 << 20  # bytes of a file that is read at once
_BESIDE = re.compile(rf"\.(.+)\.[0-9a-f]{{12}}{re.escape(MARK)}")
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_TO_SYNC = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows syncs only what may be written
_REMEDIES = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room",
    errno.ENOTDIR: "move the file that stands in place of the folder",
    errno.EEXIST: "move the file that stands in place of the folder",
    errno.EISDIR: "move the folder that stands in place of the file",
    errno.ELOOP: "remove the link that stands in place of the file",
}


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write in, which takes the place `path` when the block ends, and goes if the block fails.

    Raises OSError, about `path`, where it cannot be written.
    """
    beside = path.with_name(_beside(path.name))
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
        sync(path.parent)
    except BaseException as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text as a whole file, in UTF-8; raises OSError where it cannot be written."""
    with whole_file(path) as file:
        file.write(text.encode())


def read_whole(path: Path, most: int = MOST_READ) -> bytes:
    """What a file holds; raises OSError for one of more than `most` bytes, and for pipes and devices, which may never end."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "a pipe, socket or device is no file", str(path))
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, more than any such file", str(path))
    return path.read_bytes()


def append(path: Path, text: str) -> None:
    """Add a text to a file, on the disk before this returns; raises OSError where it cannot be written, or is a link."""
    new = not path.exists()
    with open(path, "a", encoding="utf-8", opener=no_link) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each on the disk before what it will hold; raises OSError where it cannot be made."""
    if path.is_dir():
        return
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    sync(path.parent)


def no_link(path: str, flags: int) -> int:
    """The `opener` of every file that is written where it stands: raises OSError (ELOOP) for a link."""
    if not _NO_FOLLOW and os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def reserve(folder: Path) -> None:
    """Make a folder and see that a file can be made in it; raises OSError, about the folder, where it cannot."""
    make_folder(folder)
    probe = folder / _beside("probe")
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        error.filename = str(folder)
        raise


def sync(path: Path) -> None:
    """Have the disk hold a file or a folder as it is now; nothing is done for a folder where the system syncs none."""
    folder = path.is_dir()
    if folder and not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY if folder else _TO_SYNC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(name: str) -> str:
    return f".{name}.{secrets.token_hex(6)}{MARK}"


def left_of(name: str) -> str | None:
    """The name of the file that an entry of a folder was to become when its process died; None for any other entry."""
    found = _BESIDE.fullmatch(name)
    return found[1] if found else None


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refusal(error: OSError, place: Path | None = None, verb: str = "written") -> str:
    """The sentence for what the disk refused, about the file that the error names or else `place`."""
    named = error.filename or place or "a file"
    remedy = _REMEDIES.get(error.errno or 0, "choose another place, or give yourself the right to it")
    return f"{str(named)!r} cannot be {verb}: {error.strerror or error}: {remedy}, and give the same command again"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Whatever the disk refuses meanwhile is an OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(refusal(_as_oserror(error), place)) from None


def _as_oserror(error: OSError | SafetensorError) -> OSError:
    if isinstance(error, OSError):
        return error
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))
