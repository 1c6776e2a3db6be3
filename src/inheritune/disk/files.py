"""Atomic files: written under a temporary name beside their place, synced, moved there, and the folder synced.

The temporary name is unique and has MARK in it, which nobody else uses. Nothing is written through a symbolic link: moving a file
to its place replaces a link there, and a file that is appended to must not be a link (`no_link`).
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
MOST_READ = 256 << 20  # bytes of a file that is read in one piece
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
    """Open a temporary file that replaces `path` when the block ends, and is removed if the block fails.

    Raises OSError, naming `path`, if it cannot be written.
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
    """Write a text to a file atomically, in UTF-8; raises OSError if it cannot be written."""
    with whole_file(path) as file:
        file.write(text.encode())


def read_whole(path: Path, most: int = MOST_READ) -> bytes:
    """Read a whole file; raises OSError if it has more than `most` bytes, and for pipes and devices, which may never end."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "a pipe, socket or device is no file", str(path))
    if status.st_size > most:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, more than any such file", str(path))
    return path.read_bytes()


def append(path: Path, text: str) -> None:
    """Append a text to a file and sync it before returning; raises OSError if it cannot be written or is a link."""
    new = not path.exists()
    with open(path, "a", encoding="utf-8", opener=no_link) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder and its parents, each synced before what it will hold; raises OSError if it cannot be made."""
    if path.is_dir():
        return
    try:
        path.mkdir(exist_ok=True)
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    sync(path.parent)


def no_link(path: str, flags: int) -> int:
    """The `opener` for files that are written in place: raises OSError (ELOOP) for a link."""
    if not _NO_FOLLOW and os.path.islink(path):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return os.open(path, flags | _NO_FOLLOW, 0o666)


def reserve(folder: Path) -> None:
    """Make a folder and check that a file can be made in it; raises OSError, naming the folder, if not."""
    make_folder(folder)
    probe = folder / _beside("probe")
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as error:
        error.filename = str(folder)
        raise


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk (fsync); does nothing for a folder where the system cannot sync folders."""
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
    """Given the name of a leftover temporary file, return the file name it was to have; None for any other name."""
    found = _BESIDE.fullmatch(name)
    return found[1] if found else None


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refusal(error: OSError, place: Path | None = None, verb: str = "written") -> str:
    """The message to the user for an OSError, about the file that it names or else `place`."""
    named = error.filename or place or "a file"
    remedy = _REMEDIES.get(error.errno or 0, "choose another place, or give yourself the right to it")
    return f"{str(named)!r} cannot be {verb}: {error.strerror or error}: {remedy}, and give the same command again"


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an OSError or SafetensorError of the block into an OutputError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(refusal(_as_oserror(error), place)) from None


def _as_oserror(error: OSError | SafetensorError) -> OSError:
    if isinstance(error, OSError):
        return error
    found = re.search(r"os error (\d+)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError(str(error))
