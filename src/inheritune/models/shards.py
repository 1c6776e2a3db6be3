"""Safetensors files by their headers alone: tensors are found and copied as byte ranges, and none is built."""

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from inheritune.decoder.parts import split_name
from inheritune.errors import ModelError
from inheritune.runtime.system import BUFFER, copy_some

MOST_HEADER = 100_000_000  # bytes; the format's own limit
PACKED_DTYPES = frozenset(
    {"U8", "I8", "U16", "I16", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "F6_E3M2"}
)
INTEGER_DTYPES = frozenset({"BOOL", "I32", "I64", "U64"})
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "C64": 8, "BOOL": 1, "I32": 4, "I64": 8, "U64": 8}
SAMPLE = 4096  # bytes of each tensor that a fingerprint reads


ZEROS = Path("zeros")  # stands for a file of nothing but zeros, as long as need be


@dataclass(frozen=True)
class Piece:
    """One tensor in a file: its bytes are [start, end) counted from the start of the file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, the name `own` of the parameter that it becomes, and what its name in the file has `around` its block's number."""

    piece: Piece
    own: str
    around: tuple[str, str] | None = None

    def moved(self, own: str, path: str) -> "StoredTensor":
        """The same tensor as the parameter `own` of another model, under the name that a file of that model has for it."""
        place, _ = split_name(own, path)
        if self.around is None or place is None:
            return replace(self, own=own)
        before, after = self.around
        return StoredTensor(replace(self.piece, name=f"{before}{place}{after}"), own, self.around)


def read_header(file: Path) -> list[Piece]:
    """The tensors of one safetensors file in the order of their bytes.

    Raises ModelError for a file that is truncated, damaged, or holds packed numbers.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(MOST_HEADER, size - 8):
            raise ModelError(f"{file} is no safetensors file, or it is truncated: fetch it again.")
        header = _parse(stream.read(length), file)
    pieces = [_piece(name, entry, file, 8 + length) for name, entry in header.items() if name != "__metadata__"]
    pieces.sort(key=lambda piece: (piece.start, piece.end))
    _check(pieces, file, 8 + length, size)
    return pieces


def _parse(raw: bytes, file: Path) -> dict[str, Any]:
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The header of {file} cannot be read: fetch the file again.") from error
    if not isinstance(header, dict):
        raise ModelError(f"The header of {file} is not a table of tensors: fetch the file again.")
    return header


def _piece(name: str, entry: Any, file: Path, base: int) -> Piece:
    try:
        start, end = entry["data_offsets"]
        shape, dtype = tuple(entry["shape"]), entry["dtype"]
        if not all(type(size) is int and 0 <= size < 1 << 62 for size in (start, end, *shape)) or end < start:
            raise ValueError
        if dtype not in PACKED_DTYPES and end - start != math.prod(shape) * WIDTHS[dtype]:
            raise ValueError
        return Piece(name, dtype, shape, file, base + start, base + end)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{file} describes the tensor {name[:100]!r} in a way that is not safetensors: fetch it again."
        ) from error


def _check(pieces: list[Piece], file: Path, base: int, size: int) -> None:
    at = base
    for piece in pieces:
        if piece.dtype in PACKED_DTYPES:
            raise ModelError(f"{piece.name} in {file} is packed ({piece.dtype}): give an unquantised model.")
        if piece.start != at or piece.end < at:
            raise ModelError(f"The tensors of {file} overlap or leave gaps at {piece.name!r}: fetch it again.")
        at = piece.end
    if at != size:
        raise ModelError(f"{file} has {size} bytes where its header promises {at}: fetch it again.")


def same_bytes(one: Piece, other: Piece) -> bool:
    """Whether two tensors hold the same numbers, read in small steps."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with one.file.open("rb") as first, other.file.open("rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        steps = [min(BUFFER, one.size - at) for at in range(0, one.size, BUFFER)]
        return all(first.read(step) == second.read(step) for step in steps)


def fingerprint(config: bytes, pieces: Sequence[Piece]) -> str:
    """A hash of a model's config, its tensors' names, types and shapes, and the first 4 KB of each tensor.

    It tells models apart without reading all of them; it is no protection against a deliberate change.
    """
    digest = hashlib.sha256(config)
    for piece in sorted(pieces, key=lambda piece: piece.name):
        digest.update(f"{piece.name} {piece.dtype} {piece.shape}".encode())
        with piece.file.open("rb") as stream:
            stream.seek(piece.start)
            digest.update(stream.read(min(SAMPLE, piece.size)))
    return digest.hexdigest()


def write_shard(pieces: Sequence[Piece], path: Path) -> None:
    """Write one safetensors file that holds each piece's bytes under its name."""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for piece in pieces:
        entry = {"dtype": piece.dtype, "shape": list(piece.shape), "data_offsets": [at, at + piece.size]}
        header[piece.name] = entry  # type: ignore[assignment]
        at += piece.size
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as out:
        out.write(len(raw).to_bytes(8, "little") + raw)
        out.flush()
        for run in _runs(pieces):
            _copy(run, out)


def _runs(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces in order, neighbours in one file joined into one range."""
    run: Piece | None = None
    for piece in pieces:
        if run is not None and (piece.file, piece.start) == (run.file, run.end):
            run = replace(run, end=piece.end)
            continue
        if run is not None:
            yield run
        run = piece
    if run is not None:
        yield run


def _copy(run: Piece, out: BinaryIO) -> None:
    if run.file == ZEROS:
        for at in range(0, run.size, BUFFER):
            out.write(bytes(min(BUFFER, run.size - at)))
        out.flush()
        return
    with run.file.open("rb", buffering=0) as stream:
        stream.seek(run.start)
        left = run.size
        while left:
            moved = copy_some(stream, out, left)
            if not moved:
                raise ModelError(f"{run.file} became shorter while it was read.")
            left -= moved
