"""The bytes in a file of text, unpacked and as UTF-8, within bounds."""

import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from inheritune.data.documents import LONGEST
from inheritune.data.files import File
from inheritune.errors import DataError

# A file that unpacks to more than _UNPACKED bytes and more than _TIMES its size was made to harm: no text packs so tightly.
_UNPACKED, _TIMES = 32 << 20, 250
_AT_ONCE = 1 << 20
_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF16_LE: "utf-16",
          codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip


class Unpacked:
    """Counts the bytes unpacked from a file; raises DataError if they are more than any text packs into its size."""

    def __init__(self, path: Path):
        self.path, self.most, self.bytes = path, max(_UNPACKED, _TIMES * path.stat().st_size), 0

    def add(self, count: int) -> None:
        """Count further bytes that came out."""
        self.bytes += count
        if self.bytes > self.most:
            raise DataError(
                f"{str(self.path)!r} unpacks to more than {_TIMES} times its size, as no text does: check what it is"
            )


class _Counted(io.RawIOBase):
    """A stream whose bytes are counted by `Unpacked`."""

    def __init__(self, stream: IO[bytes], path: Path):
        self.stream, self.unpacked = stream, Unpacked(path)

    def readable(self) -> bool:
        return True

    def readinto(self, room: bytearray | memoryview) -> int:  # type: ignore[override]
        found = self.stream.read(len(room))
        self.unpacked.add(len(found))
        room[: len(found)] = found
        return len(found)


class _AsUtf8(io.RawIOBase):
    """A stream of text in another encoding, read as UTF-8."""

    def __init__(self, stream: IO[bytes], encoding: str, path: Path):
        self.stream, self.encoding, self.path = stream, encoding, path
        self.decoder, self.held = codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, room: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self.held:
            read = self.stream.read(_AT_ONCE)
            self.held = self._decoded(read).encode()
            if not read:
                break
        found, self.held = self.held[: len(room)], self.held[len(room) :]
        room[: len(found)] = found
        return len(found)

    def _decoded(self, read: bytes) -> str:
        try:
            return self.decoder.decode(read, final=not read)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{str(self.path)!r} begins as {self.encoding.upper()} text and is none ({error.reason}): convert it to UTF-8"
            ) from None


@contextmanager
def opened(file: File) -> Iterator[io.BufferedReader]:
    """A file's bytes, unpacked, and as UTF-8 where its byte order mark says otherwise; DataError for damage."""
    with readable(file.path), _unpacked(file) as stream:
        start = stream.peek(4)[:4]
        encoding = next((name for mark, name in _MARKS.items() if start.startswith(mark)), None)
        yield io.BufferedReader(_AsUtf8(stream, encoding, file.path), _AT_ONCE) if encoding else stream


def _unpacked(file: File) -> io.BufferedReader:
    if not file.is_packed:
        return file.path.open("rb")
    return io.BufferedReader(_Counted(_OPEN[file.path.suffix.lower()](file.path), file.path), _AT_ONCE)


def _zstd(path: Path) -> IO[bytes]:
    import pyarrow

    return cast(IO[bytes], pyarrow.input_stream(str(path), compression="zstd"))


_OPEN: dict[str, Callable[[Path], IO[bytes]]] = {".gz": gzip.GzipFile, ".xz": lzma.LZMAFile, ".zst": _zstd}  # type: ignore[dict-item]


def lines(file: File) -> Iterator[bytes]:
    """A file's lines as UTF-8, unpacked; DataError for damage, and for a line longer than any document."""
    with opened(file) as stream:
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
    """Turn errors that the block meets in reading `path` into a DataError of one sentence."""
    import pyarrow

    try:
        yield
    except (
        OSError,
        EOFError,
        MemoryError,
        zlib.error,
        lzma.LZMAError,
        UnicodeDecodeError,
        pyarrow.ArrowException,
    ) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        remedy = "it is damaged or not what its name says, so fetch or pack it again"
        if "too much memory for decoding" in first:
            remedy = "it was packed with `--long`, so unpack it (zstd -d --long=31) or pack it again without"
        raise DataError(f"{str(path)!r} cannot be read ({first}): {remedy}") from None
