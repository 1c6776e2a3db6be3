"""Compare a smaller model with its real rivals, the larger one in fewer bits: each is packed by llama.cpp and measured on one text.

Losses and guard answers are those of the weights unpacked from each file; speed is llama.cpp's own.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch

from inheritune.errors import ModelError
from inheritune.evaluation.found import Rival, TextLoss
from inheritune.evaluation.generation import Use, middle
from inheritune.evaluation.measure import Against
from inheritune.models import llama_cpp
from inheritune.models.export import cache_bytes_per_token, weight_bytes, write_model
from inheritune.models.load import load_model
from inheritune.models.reference import Reference
from inheritune.progress import Progress
from inheritune.records.guard import Guard
from inheritune.runtime.device import device

Side = Literal["reference", "model"]
Bits = Literal["f16", "q8_0", "q4_k_m"]
# Measures a packed model, in the same way for all: its loss, its gap to the reference and, if asked for, its guard verdict.
Measure = Callable[[Reference], tuple[TextLoss, Against, Guard | None]]
_WANTED: tuple[tuple[Side, tuple[Bits, ...]], ...] = (
    ("reference", ("q8_0", "q4_k_m")),
    ("model", ("f16", "q8_0", "q4_k_m")),
)


@dataclass(frozen=True)
class InUse:
    """How use is measured: tokens of the prompt, new tokens, and turns that the models take."""

    prompt: int
    new: int
    turns: int


def rivals(
    model: Reference, reference: Reference, measure: Measure, window: int, use: InUse | None, progress: Progress
) -> tuple[list[Rival], list[str]]:
    """Measure the reference in 8 and 4 bits and the model in 16, 8 and 4; return a sentence for each that failed, too.

    Memory is that of the weights and of the keys and values of `window` tokens in float16.
    """
    found, notes = list[Rival](), list[str]()
    sides = {"reference": reference, "model": model}
    with TemporaryDirectory() as place:
        files = list[Path]()
        for side, bits in _WANTED:
            source = _Source(sides[side], Path(place) / side)
            for each in bits:
                name = f"{source.loaded.name} in {each}"
                try:
                    with progress.waiting(f"{name}: packed by llama.cpp"):
                        file = source.packed(each)
                    progress.stage(f"{name}: unpacked and measured")
                    found.append(_rival(side, each, source.loaded, file, measure, window))
                    files.append(file)
                except ModelError as error:
                    notes.append(f"{name} is left out: {error}")
        if use and files:
            try:
                progress.stage("Packed models in llama.cpp, each time in a process of its own")
                found = [
                    one.model_copy(update={"use": seen}) for one, seen in zip(found, _uses(files, use), strict=True)
                ]
            except ModelError as error:
                notes.append(f"speed in llama.cpp is left out: {error}")
    return found, notes


class _Source:
    """A model in the form that llama.cpp's converter takes: its own folder, or one written for a model read from a GGUF file."""

    def __init__(self, loaded: Reference, scratch: Path):
        self.loaded, self._scratch = loaded, scratch
        scratch.mkdir()

    def packed(self, bits: Bits) -> Path:
        """The model as a GGUF file of these bits; raises ModelError if it cannot be made."""
        file = self._scratch / f"{bits}.gguf"
        if bits == "q4_k_m":
            llama_cpp.quantise(self.packed("f16"), file, bits)
        elif not file.exists():
            llama_cpp.convert(self._folder(), file, bits)
        return file

    def _folder(self) -> Path:
        place = self.loaded.place
        if place.is_dir():
            return place
        written = self._scratch / "folder"
        if not written.exists():
            write_model(self.loaded.model, written, source=None, tokenizer=self.loaded.tokenizer)
        return written


def _rival(side: Side, bits: Bits, source: Reference, file: Path, measure: Measure, window: int) -> Rival:
    unpacked = load_model(file, torch.float32, on=device())
    text, gap, guard = measure(replace(source, model=unpacked, place=file))
    disk, cache = weight_bytes(file), cache_bytes_per_token(unpacked, torch.float16) or 0
    return Rival(
        side=side, model=source.name, bits=bits, disk_bytes=disk, memory_bytes=disk + window * cache,
        text=text, gap=gap, guard=guard,
    )  # fmt: skip


def _uses(files: Sequence[Path], use: InUse) -> Iterator[Use]:
    """Time each file in turn in llama.cpp; the median over its turns."""
    seen: list[list[Use]] = [[] for _ in files]
    for _ in range(use.turns):
        for turns, file in zip(seen, files, strict=True):
            took = llama_cpp.speed(file, use.prompt, use.new, torch.get_num_threads())
            sizes = int(took["peak_bytes"]), int(took["base_bytes"])
            turns.append(Use(took["first_token_seconds"], took["tokens_per_second"], *sizes))
    return map(middle, seen)
