"""A model folder as a GGUF file: converted and packed by llama.cpp's own tools, and its first tokens compared with transformers'."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from inheritune.decoder.anatomy import text_config
from inheritune.disk.files import sync, writing
from inheritune.disk.folders import require_room
from inheritune.errors import ModelError, OutputError, ProofError
from inheritune.evaluation.first_tokens import FirstTokens, SameTokens, first_tokens, same_tokens
from inheritune.models import llama_cpp
from inheritune.models.export import weight_bytes
from inheritune.models.hollow import read_config
from inheritune.models.llama_cpp import Packed, Width
from inheritune.models.load import kept_dtype, load_model, tokenizer_at
from inheritune.progress import Progress
from inheritune.records.entry import Count, Entry

_WIDTHS: dict[torch.dtype, Width] = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}
_ROW = 32  # numbers that every packing groups together


class GgufFile(Entry):
    """A GGUF file that was made: `same` is of the file itself, `unpacked_same` of its model before the weights were packed.

    `unchecked` says why no tokens were compared.
    """

    bytes: Count
    weights: str
    same: SameTokens | None = None
    unpacked_same: SameTokens | None = None
    unchecked: str | None = None

    @property
    def packed(self) -> bool:
        """Whether its weights are not as the model folder has them."""
        return self.weights in llama_cpp.PACKED


def require_packable(folder: Path, packed: Packed | None) -> None:
    """Raise ModelError where the model's rows cannot be packed."""
    width = getattr(text_config(read_config(folder)), "hidden_size", None)
    if packed and isinstance(width, int) and width % _ROW:
        raise ModelError(
            f"{packed} packs {_ROW} numbers at a time, and this model's hidden size is {width}: leave --quantise out."
        )


def make_gguf(folder: Path, out: Path, packed: Packed | None, check: bool, progress: Progress) -> GgufFile:
    """Write a model folder as the GGUF file `out`, in its own dtype, or packed.

    With `check`, greedy tokens of the file are compared with transformers' before it is put at `out`. Raises ProofError where
    llama.cpp computes another model from weights that are not packed, ModelError where it does not take the model, and
    OutputError where the disk has no room.
    """
    width = _WIDTHS[kept_dtype(folder)]
    if packed and not llama_cpp.can_quantise():  # the converter packs eight bits itself
        width, packed = "q8_0", None
    require_room(out, weight_bytes(folder) * (2 if packed else 1))
    unchecked = None if check else "it was not asked for"
    if check and not llama_cpp.can_run():
        unchecked = f"no runner of llama.cpp is here: {llama_cpp.HOW['runner']}"
    with writing(out.parent), TemporaryDirectory(dir=out.parent, prefix=".gguf-") as scratch:
        made = Path(scratch) / f"{width}.gguf"
        with progress.waiting("Converting, by llama.cpp's converter"):
            llama_cpp.convert(folder, made, width)
        ours = [] if unchecked else _ours(folder, progress)
        if not (ours or unchecked):
            unchecked = "the model has no positions for the prompts"
        same, unpacked = _theirs(made, ours, progress), None
        if same and same.other_model and width != "q8_0":
            raise ProofError(
                f"llama.cpp computes another model of these weights: {same}. No file was written; --no-check writes it all the same."
            )
        if packed:
            whole, made, unpacked = made, Path(scratch) / f"{packed}.gguf", same
            with progress.waiting(f"Packing to {packed}, by llama.cpp's quantiser"):
                llama_cpp.quantise(whole, made, packed)
            same = _theirs(made, ours, progress)
        made.replace(out)
        sync(out.parent)
    return GgufFile(
        bytes=out.stat().st_size, weights=packed or width, same=same, unpacked_same=unpacked, unchecked=unchecked
    )


def require_free(out: Path, force: bool) -> None:
    """Raise OutputError where something stands at `out` that may not be replaced, or there is no folder for it."""
    if not out.absolute().parent.is_dir():
        raise OutputError(f"{out.parent} is no folder: make it, or choose another place with --out.")
    if out.is_dir() and not out.is_symlink():
        raise OutputError(f"{out} is a folder: name a file with --out.")
    if out.is_file() and out.stat().st_size and not _is_gguf(out):
        raise OutputError(f"{out} is no GGUF file, so it is not replaced: move it, or choose another name with --out.")
    if (out.exists() or out.is_symlink()) and not force:
        raise OutputError(f"{out} exists: choose another name with --out, or give --force to replace it.")


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def _ours(folder: Path, progress: Progress) -> list[FirstTokens]:
    with progress.waiting("First tokens, by transformers in float32"):
        return first_tokens(load_model(folder, torch.float32), tokenizer_at(folder))


def _theirs(gguf: Path, ours: list[FirstTokens], progress: Progress) -> SameTokens | None:
    if not ours:
        return None
    with progress.waiting(f"First tokens of {gguf.stem}, by llama.cpp"):
        return same_tokens(ours, llama_cpp.greedy(gguf, [own.prompt for own in ours], len(ours[0].tokens)))
