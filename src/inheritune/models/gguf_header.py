"""The header of a GGUF file, read with distrust: every count, size and offset is held against the file before other code reads it."""

import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from inheritune.errors import ModelError

MOST_COUNT = 1 << 14  # blocks, heads, experts: more are no model's
_MOST_PAIRS, _MOST_TENSORS, _MOST_ITEMS = 1 << 12, 1 << 20, 1 << 21
_MOST_NAME, _MOST_TEXT, _MOST_AXES = 1 << 10, 1 << 26, 4  # bytes, bytes, axes
_VERSIONS, _ALIGNMENT = (2, 3), 32
_STRING, _ARRAY = 8, 9
_FORMATS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_KIND = re.compile(r"[\w.-]{1,64}", re.ASCII)
_BLOCK = re.compile(r"blk\.(\d{1,6})\.", re.ASCII)
_U64 = struct.Struct("<Q")
Value = int | float | str


@dataclass(frozen=True)
class GgufTensor:
    """One tensor of a GGUF file: how many numbers it has, and its bytes [start, end) counted from where the tensors begin."""

    name: str
    numbers: int
    start: int
    end: int


@dataclass(frozen=True)
class GgufHeader:
    """The metadata of a GGUF file, without arrays of several values, and where its tensors lie."""

    values: dict[str, Value]
    tensors: list[GgufTensor]

    @property
    def numbers(self) -> int:
        """Numbers of all tensors."""
        return sum(tensor.numbers for tensor in self.tensors)


def read_gguf_header(path: Path) -> GgufHeader:
    """The header of a GGUF file; raises ModelError where it is no such file, or says what the file does not hold."""
    with _mapped(path) as content:
        reader = _Reader(content, path)
        if (version := reader.number("<I")) not in _VERSIONS:
            raise ModelError(f"{path} is GGUF of version {version}: versions 2 and 3 are read.")
        tensors, pairs = reader.count(_MOST_TENSORS, "tensors"), reader.count(_MOST_PAIRS, "pairs of name and value")
        values = dict(reader.pair() for _ in range(pairs))
        found = [reader.tensor() for _ in range(tensors)]
        alignment = _alignment(values, path)
        held = len(content) - math.ceil(reader.at / alignment) * alignment
    header = GgufHeader({name: value for name, value in values.items() if value is not None}, found)
    _require_apart(found, held, alignment, path)
    _require_counts(header.values, path)
    _require_blocks(header, path)
    return header


@contextmanager
def _mapped(path: Path) -> Iterator[mmap]:
    if not path.is_file():
        raise ModelError(f"{path} is no file: give a GGUF file, or a model folder.")
    with path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise ModelError(f"{path} is not a GGUF file, whatever its name says: fetch it again.")
        with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            yield content


class _Reader:
    """Reads one value after the other, and never beyond the file."""

    def __init__(self, content: mmap, path: Path) -> None:
        self.content, self.path, self.at = content, path, 4

    def skip(self, count: int) -> int:
        """Move past `count` bytes, and return where they begin; raises ModelError at the end of the file."""
        start = self.at
        self.at += count
        if self.at > len(self.content):
            raise ModelError(f"{self.path} ends before its header does: fetch it again.")
        return start

    def number(self, form: str) -> Any:
        return struct.unpack_from(form, self.content, self.skip(struct.calcsize(form)))[0]

    def count(self, most: int, what: str) -> int:
        count = int(self.number("<Q"))
        if count > most:
            raise ModelError(
                f"{self.path} promises {count:,} {what}, and no model has more than {most:,}: fetch it again."
            )
        return count

    def text(self, most: int, what: str) -> str:
        count = self.count(most, f"bytes of {what}")
        start = self.skip(count)
        return self.content[start : start + count].decode(errors="replace")

    def pair(self) -> tuple[str, Value | None]:
        name = self.text(_MOST_NAME, "a name")
        return name, self.value(self.number("<I"))

    def value(self, kind: int) -> Value | None:
        """A value of this kind; None for an array, unless it has just one item: that is read as if it stood alone."""
        if kind == _STRING:
            return self.text(_MOST_TEXT, "a text")
        if kind != _ARRAY:
            return self.scalar(kind)
        kind, count = self.number("<I"), self.count(_MOST_ITEMS, "items of a list")
        if count == 1 and kind != _ARRAY:
            return self.value(kind)
        if kind == _STRING:
            self.skip_texts(count)
        elif count:
            self.skip(struct.calcsize(self.form(kind)) * count)
        return None

    def scalar(self, kind: int) -> Value:
        value: Value = self.number(self.form(kind))
        return value

    def form(self, kind: int) -> str:
        if kind not in _FORMATS:
            raise ModelError(f"{self.path} has a value of the unknown kind {kind}: fetch it again.")
        return _FORMATS[kind]

    def skip_texts(self, count: int) -> None:
        """Move past `count` strings without decoding them: a vocabulary has hundreds of thousands."""
        at, last = self.at, len(self.content) - 8
        for _ in range(count):
            if at > last:
                break
            at += 8 + _U64.unpack_from(self.content, at)[0]
        else:
            self.skip(at - self.at)
            return
        self.skip(len(self.content) + 1)

    def tensor(self) -> GgufTensor:
        name, axes = self.text(_MOST_NAME, "a name"), self.number("<I")
        if not 0 < axes <= _MOST_AXES:
            raise ModelError(f"{self.path} describes the tensor {name:.100} with {axes} axes: fetch it again.")
        shape = [int(self.number("<Q")) for _ in range(axes)]
        kind, start = self.number("<I"), int(self.number("<Q"))
        return GgufTensor(name, math.prod(shape), start, start + self.bytes_of(name, kind, shape))

    def bytes_of(self, name: str, kind: int, shape: list[int]) -> int:
        """How many bytes a tensor takes whose rows are packed as `kind` says."""
        from gguf.constants import GGML_QUANT_SIZES

        sizes = {int(own): size for own, size in GGML_QUANT_SIZES.items()}
        if kind not in sizes or not math.prod(shape) or shape[0] % sizes[kind][0]:
            raise ModelError(f"{self.path} describes the tensor {name:.100} in a way that is not GGUF: fetch it again.")
        together, width = sizes[kind]
        return math.prod(shape) // together * width


def _alignment(values: dict[str, Value | None], path: Path) -> int:
    alignment = values.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or not 1 <= alignment <= 1 << 16:
        raise ModelError(f"{path} says general.alignment = {alignment!r:.40}: a small whole number is needed.")
    return alignment


def _require_apart(tensors: list[GgufTensor], held: int, alignment: int, path: Path) -> None:
    """Raise ModelError for tensors that overlap, lie outside the `held` bytes, or have one name."""
    names, at = set(), 0
    for tensor in sorted(tensors, key=lambda tensor: tensor.start):
        if tensor.start < at or tensor.start % alignment or tensor.name in names:
            raise ModelError(f"The tensors of {path} overlap, or have one name, at {tensor.name:.100}: fetch it again.")
        names.add(tensor.name)
        at = tensor.end
    if at > held:
        raise ModelError(f"{path} ends before its tensors do: fetch it again.")


def _require_counts(values: dict[str, Value], path: Path) -> None:
    """Raise ModelError for absurd counts, and for one part of a model in several files."""
    if (parts := values.get("split.count", 1)) not in (0, 1):
        raise ModelError(f"{path} is one of {parts!r:.40} parts: join them first (llama-gguf-split --merge).")
    for name, value in values.items():
        if name.endswith("_count") and isinstance(value, int | float) and not 0 <= value <= MOST_COUNT:
            raise ModelError(f"{path} says {name:.100} = {value!r:.40}: more than {MOST_COUNT:,} are no model's.")


def _require_blocks(header: GgufHeader, path: Path) -> None:
    """Raise ModelError where the header's number of blocks is not that of the tensors."""
    kind = header.values.get("general.architecture")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise ModelError(f"{path} does not say of which kind its model is (general.architecture): fetch it again.")
    told = header.values.get(f"{kind}.block_count")
    held = {int(found[1]) for tensor in header.tensors if (found := _BLOCK.match(tensor.name))}
    if told != len(held) or max(held, default=-1) >= len(held):
        raise ModelError(
            f"{path} says {kind}.block_count = {told!r:.40}, but its tensors are of {len(held)} blocks: they do not"
            " belong together, so fetch it again."
        )
