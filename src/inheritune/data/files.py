"""Which files a source names."""

import glob
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from inheritune.errors import DataError

# Compression by suffix, and how many times larger English prose is unpacked (gzip -6, xz -6, zstd -3 on ten books).
PACKED_SUFFIXES = {".gz": 2.7, ".xz": 3.5, ".zst": 2.9}
# Files that stand beside data without being data.
_ABOUT = re.compile(r"(readme|licen[cs]e|notice|changelog|citation|dataset_infos?)\b.*", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """A file: its path, a name that depends on neither machine nor compression, and its suffix without compression."""

    path: Path
    name: str
    kind: str

    @property
    def is_packed(self) -> bool:
        """Whether it has to be unpacked."""
        return self.path.suffix.lower() in PACKED_SUFFIXES

    @property
    def about_bytes(self) -> float:
        """Its size in bytes when unpacked, estimated if it is packed."""
        return self.path.stat().st_size * PACKED_SUFFIXES.get(self.path.suffix.lower(), 1)


def files(source: str, wanted: str) -> list[File]:
    """The files that a path, a folder or a glob names, in order; `wanted` says in words, for messages, what can be read.

    Raises DataError if there are none, for links that lead out or to nothing, and for pipes, sockets and devices.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path, wanted)
    if path.exists():
        return [_file(path, path.parent)]
    if glob.has_magic(source):
        return _of_glob(source)
    hub = f"; a dataset of the hub is 'hf:{source}'" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
    raise DataError(f"there is no file {source!r}: give a file, a folder or a glob of {wanted}{hub}")


def _of_folder(folder: Path, wanted: str) -> list[File]:
    inside = (Path(top) / name for top, names in _walk(str(folder), folder) for name in names)
    found = sorted(path for path in inside if not _is_about(path.relative_to(folder)))
    if not found:
        raise DataError(f"the folder {str(folder)!r} holds no text: give one of {wanted}")
    return [_file(path, folder) for path in found]


def _of_glob(pattern: str) -> list[File]:
    whole = fixed = Path(pattern).expanduser()
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    found = sorted({path for path in _matches(whole, fixed) if not path.is_dir()})
    if not found:
        raise DataError(f"the pattern {pattern!r} matches no file: check it, and quote it against the shell")
    return [_file(path, fixed) for path in found]


def _matches(pattern: Path, root: Path) -> Iterator[Path]:
    """The paths that a glob matches; unlike in `glob`, `**` follows no links to folders, so that it ends."""
    if "**" not in pattern.parts:
        yield from map(Path, glob.glob(str(pattern)))
        return
    at = pattern.parts.index("**")
    for top in glob.glob(str(Path(*pattern.parts[:at]))):
        for folder, _ in _walk(top, root):
            yield from _matches(Path(glob.escape(folder), *pattern.parts[at + 1 :] or "*"), root)


def _walk(top: str, root: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder that is not hidden, with its files; a link to a folder outside `root` is refused."""
    for folder, inside, names in os.walk(top):
        inside[:] = [name for name in inside if not name.startswith(".")]
        for link in (path for name in inside if (path := Path(folder) / name).is_symlink()):
            _refuse_leading_out(link, root)
        yield folder, names


def _is_about(path: Path) -> bool:
    return path.name.startswith(".") or bool(_ABOUT.fullmatch(path.name))


def _file(path: Path, root: Path) -> File:
    _refuse_leading_out(path, root)
    require_regular(path)
    if path.stat().st_size == 0:
        raise DataError(f"{str(path)!r} is empty: give a file with at least one document")
    plain = path.with_suffix("") if path.suffix.lower() in PACKED_SUFFIXES else path
    return File(path, plain.relative_to(root).as_posix(), plain.suffix.lower())


def _refuse_leading_out(path: Path, root: Path) -> None:
    real, cached = path.resolve(), root.resolve().parents
    if not real.is_relative_to(root.resolve()) and not any(real.is_relative_to(up / "blobs") for up in cached):
        raise DataError(
            f"{str(path)!r} is a link that leads out of its folder, to {str(real)!r}: name that file itself"
        )


def require_regular(path: Path) -> None:
    """Raise DataError for a pipe, socket or device, which may never end or never begin, and for a link to nothing."""
    if not path.exists():
        raise DataError(f"{str(path)!r} is a link to nothing: mend it or leave it out by a glob")
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{str(path)!r} is a pipe, socket or device and no file: write what it gives into a file")


def all_files(folder: Path) -> list[tuple[str, Path]]:
    """All files in a folder, at any depth, by their names within it, in order."""
    return [(str(path.relative_to(folder)), path) for path in sorted(folder.rglob("*")) if path.is_file()]
