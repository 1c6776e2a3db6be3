"""Which files a source names, what each holds by its name, and the bytes in it, unpacked."""

import glob
import gzip
import io
import lzma
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from inheritune.data.documents import LONGEST
from inheritune.errors import DataError

TEXT, ROWS, TABLES, IDS = (".txt", ".md", ".text"), (".jsonl", ".ndjson"), (".parquet", ".arrow"), (".bin",)
PACKED = (".gz", ".xz", ".zst")
READ = ".txt, .md, .jsonl (plain or .gz, .xz, .zst), .parquet, .arrow or nanoGPT's .bin"
# What stands beside data without being any.
_ABOUT = re.compile(r"(readme|licen[cs]e|notice|changelog|citation)\b.*", re.IGNORECASE)


@dataclass(frozen=True)
class File:
    """A file of text: its path, its kind (a suffix), and a name that neither the machine nor packing changes."""

    path: Path
    name: str
    kind: str


def files(source: str) -> list[File]:
    """The files that a path, a folder or a glob names, in order; DataError where there are none or one is of no kind."""
    path = Path(source).expanduser()
    if path.is_dir():
        return _of_folder(path)
    if path.exists():
        return [_file(path, path.parent)]
    if glob.has_magic(source):
        return _of_glob(source)
    hub = f"; a dataset of the hub is 'hf:{source}'" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
    raise DataError(f"there is no file {source!r}: give a file, a folder or a glob of {READ}{hub}")


def _of_folder(folder: Path) -> list[File]:
    inside = sorted(path for path in _below(folder) if not _is_about(path.relative_to(folder)))
    if not inside:
        raise DataError(f"the folder {str(folder)!r} holds no text: give one of {READ}")
    return [_file(path, folder) for path in inside]


def _below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of those in it. A link to a folder is not gone through: what it leads to stands inside."""
    for top, folders, names in os.walk(folder):
        for link in (path for name in folders if (path := Path(top) / name).is_symlink()):
            _refuse_leading_out(link, folder)
        yield from (Path(top) / name for name in names)


def _of_glob(pattern: str) -> list[File]:
    fixed = Path(pattern).expanduser()
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    found = sorted({path for path in _matches(Path(pattern).expanduser()) if not path.is_dir()})
    if not found:
        raise DataError(f"the pattern {pattern!r} matches no file: check it, and quote it against the shell")
    return [_file(path, fixed) for path in found]


def _matches(pattern: Path) -> Iterator[Path]:
    """What a glob finds. `**` goes through no link to a folder, as `glob` would, so that it ends."""
    if "**" not in pattern.parts:
        yield from map(Path, glob.glob(str(pattern)))
        return
    at = pattern.parts.index("**")
    for top in glob.glob(str(Path(*pattern.parts[:at]))):
        for folder, inside, _ in os.walk(top):
            inside[:] = [name for name in inside if not name.startswith(".")]
            yield from _matches(Path(glob.escape(folder), *pattern.parts[at + 1 :] or "*"))


def _is_about(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or bool(_ABOUT.fullmatch(path.name))


def _refuse_leading_out(path: Path, root: Path) -> None:
    real, cached = path.resolve(), root.resolve().parents
    if not real.is_relative_to(root.resolve()) and not any(real.is_relative_to(up / "blobs") for up in cached):
        raise DataError(
            f"{str(path)!r} is a link that leads out of its folder, to {str(real)!r}: name that file itself"
        )


def _file(path: Path, root: Path) -> File:
    _refuse_leading_out(path, root)
    _refuse_special(path)
    packed = path.suffix.lower() in PACKED
    plain = path.with_suffix("") if packed else path
    kind = plain.suffix.lower()
    if kind not in (TEXT + ROWS if packed else TEXT + ROWS + TABLES + IDS):
        raise DataError(f"{str(path)!r} is of no kind that is read: give {READ}, or leave it out by a glob")
    if path.stat().st_size == 0:
        raise DataError(f"{str(path)!r} is empty: give a file with at least one document")
    return File(path, plain.relative_to(root).as_posix(), kind)


def _refuse_special(path: Path) -> None:
    """Raise DataError for what may never end, or never begin: a pipe, a socket, a device; and for a link to nothing."""
    if not path.exists():
        raise DataError(f"{str(path)!r} is a link to nothing: mend it or leave it out by a glob")
    if not stat.S_ISREG(path.stat().st_mode):
        raise DataError(f"{str(path)!r} is a pipe, socket or device and no file: write what it gives into a file")


def lines(file: File) -> Iterator[bytes]:
    """A file's lines as bytes, unpacked; DataError for damage, and for a line longer than any document."""
    with readable(file.path), _opened(file.path) as stream:
        number = 0
        while line := stream.readline(LONGEST + 1):
            number += 1
            if len(line) > LONGEST:
                raise DataError(
                    f"line {number} of {str(file.path)!r} has more than {LONGEST >> 20} MB: cut it into documents"
                )
            yield line


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Damage met while reading `path`, in one sentence."""
    import pyarrow

    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pyarrow.ArrowException) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise DataError(
            f"{str(path)!r} cannot be read ({first}): it is damaged or not what its name says, so fetch or pack it again"
        ) from None


def _opened(path: Path) -> IO[bytes]:
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path))
    if path.suffix.lower() == ".xz":
        return io.BufferedReader(cast(io.RawIOBase, lzma.open(path)), 1 << 20)
    if path.suffix.lower() == ".zst":
        import pyarrow

        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), 1 << 20)
    return path.open("rb")
