"""The header of a GGUF file, read with distrust: every count, size and offset is held against the file before other code reads it."""

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inheritune.errors import ModelError

MOST_COUNT = 1 << 14  # blocks, heads, experts: more are no model's
_VERSIONS, _ALIGNMENT, _MOST_AXES, _MOST_NAME, _MOST_NESTED = (2, 3), 32, 4, 1 << 12, 3
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_BLOCK = re.compile(r"blk\.(\d{1,6})\.")
Value = int | float | str


@dataclass(frozen=True)
class Stretch:
    """One tensor of a GGUF file: its numbers, and its bytes [start, end) counted from where the tensors begin."""

    name: str
    numbers: int
    start: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """What a GGUF file says of itself, arrays left out, and where its tensors lie."""

    values: dict[str, Value]
    tensors: list[Stretch]

    @property
    def numbers(self) -> int:
        """Numbers of all tensors."""
        return sum(tensor.numbers for tensor in self.tensors)


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of a GGUF file; raises ModelError where it is no such file, or does not fit what the file holds."""
    with path.open("rb") as stream:
        reader = _Reader(stream, path)
        if reader.bytes(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file, whatever its name says: fetch it again.")
        if (version := reader.number("<I")) not in _VERSIONS:
            raise ModelError(f"{path} is GGUF of version {version}: versions 2 and 3 are read.")
        tensors, pairs = reader.number("<Q"), reader.number("<Q")
        values = dict(reader.pair() for _ in reader.counted(pairs, "pairs of names and values"))
        found = [reader.tensor() for _ in reader.counted(tensors, "tensors")]
        alignment = _alignment(values, path)
        begins = math.ceil(stream.tell() / alignment) * alignment
    header = GgufHeader({name: value for name, value in values.items() if value is not None}, found)
    _require_apart(header, path.stat().st_size - begins, alignment, path)
    _require_blocks(header, path)
    return header


class _Reader:
    """Reads values one after the other, and never more than the file holds."""

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self.stream, self.path, self.size = stream, path, path.stat().st_size

    def bytes(self, count: int) -> bytes:
        self.require(count)
        return self.stream.read(count)

    def require(self, count: int) -> None:
        if not 0 <= count <= self.size - self.stream.tell():
            raise ModelError(f"The header of {self.path} promises more than the file holds: fetch it again.")

    def counted(self, count: int, what: str) -> range:
        """That many things, of which each takes some bytes."""
        if count > self.size:
            raise ModelError(f"{self.path} promises {count} {what}, more than it has bytes: fetch it again.")
        return range(count)

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.bytes(struct.calcsize(form)))[0])

    def text(self, most: int | None = None) -> str:
        count = self.number("<Q")
        if most is not None and count > most:
            raise ModelError(f"{self.path} has a name of {count} bytes: fetch it again.")
        return self.bytes(count).decode(errors="replace")

    def pair(self) -> tuple[str, Value | None]:
        name = self.text(_MOST_NAME)
        return name, self.value(self.number("<I"))

    def value(self, kind: int) -> Value | None:
        """A value of this kind; None for an array, which is passed over."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self.passed_over(1)
        if kind not in _FORMATS:
            raise ModelError(f"{self.path} has a value of the unknown kind {kind}: fetch it again.")
        form = _FORMATS[kind]
        value: Value = struct.unpack(form, self.bytes(struct.calcsize(form)))[0]
        return value

    def passed_over(self, nested: int) -> None:
        kind, count = self.number("<I"), self.number("<Q")
        if kind in _FORMATS:
            width = struct.calcsize(_FORMATS[kind]) * count
            self.require(width)
            self.stream.seek(width, 1)
            return
        if kind not in (_STRING, _ARRAY) or nested > _MOST_NESTED:
            raise ModelError(f"{self.path} has an array of the unknown kind {kind}: fetch it again.")
        for _ in self.counted(count, "items of an array"):
            if kind == _ARRAY:
                self.passed_over(nested + 1)
            else:
                self.bytes(self.number("<Q"))

    def tensor(self) -> Stretch:
        name, axes = self.text(_MOST_NAME), self.number("<I")
        if not 0 < axes <= _MOST_AXES:
            raise ModelError(f"{self.path} describes the tensor {name[:100]!r} with {axes} axes: fetch it again.")
        shape = [self.number("<Q") for _ in range(axes)]
        kind, start = self.number("<I"), self.number("<Q")
        numbers = math.prod(shape)
        return Stretch(name, numbers, start, start + self._bytes_of(name, kind, shape[0], numbers))

    def _bytes_of(self, name: str, kind: int, row: int, numbers: int) -> int:
        from gguf.constants import GGML_QUANT_SIZES

        sizes = {int(own): size for own, size in GGML_QUANT_SIZES.items()}
        if kind not in sizes or not numbers or row % sizes[kind][0]:
            raise ModelError(f"{self.path} describes the tensor {name[:100]!r} in a way that is not GGUF: fetch it again.")
        together, width = sizes[kind]
        return numbers // together * width


def _alignment(values: dict[str, Value | None], path: Path) -> int:
    alignment = values.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16:
        raise ModelError(f"{path} says general.alignment = {alignment!r:.40}: a small whole number is needed.")
    return alignment


def _require_apart(header: GgufHeader, size: int, alignment: int, path: Path) -> None:
    """Raise ModelError for tensors that overlap, lie outside the file, or have one name."""
    names, at = set(), 0
    for tensor in sorted(header.tensors, key=lambda tensor: tensor.start):
        if tensor.start < at or tensor.start % alignment or tensor.name in names:
            raise ModelError(f"The tensors of {path} overlap, or share a place or a name, at {tensor.name!r:.100}: fetch it again.")
        names.add(tensor.name)
        at = tensor.end
    if at > size:
        raise ModelError(f"{path} ends before its tensors do: fetch it again.")


def _require_blocks(header: GgufHeader, path: Path) -> None:
    """Raise ModelError where the header counts other blocks than the file holds, and for absurd counts and parts of files."""
    parts = header.values.get("split.count", 1)
    if parts not in (0, 1):
        raise ModelError(f"{path} is one of {parts} parts: join them first (llama-gguf-split --merge).")
    kind = header.values.get("general.architecture")
    for name, value in header.values.items():
        if name.endswith("_count") and type(value) is int and not 0 <= value <= MOST_COUNT:
            raise ModelError(f"{path} says {name} = {value}: more than {MOST_COUNT:,} are no model's.")
    told = header.values.get(f"{kind}.block_count")
    held = {int(found[1]) for tensor in header.tensors if (found := _BLOCK.match(tensor.name))}
    if held and (told != len(held) or max(held) >= len(held)):
        raise ModelError(
            f"{path} says {kind}.block_count = {told!r:.40}, and holds the blocks 0 to {max(held)}: they do not belong"
            " together, so fetch it again."
        )
