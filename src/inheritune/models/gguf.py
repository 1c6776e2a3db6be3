"""GGUF files: checked before transformers reads them, and the header read once, not anew for config, weights and tokenizer."""

from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from shlex import quote
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from inheritune.decoder.anatomy import plain_numbers, refuse_unsupported
from inheritune.errors import ModelError, plain
from inheritune.models.distrust import require_memory
from inheritune.models.gguf_header import GgufHeader, read_gguf_header
from inheritune.models.hollow import buffer_bytes, hollow
from inheritune.models.quiet import quiet
from inheritune.progress import Progress

_open = False


@contextmanager
def read_once(place: Path) -> Iterator[None]:
    """Within the outermost of these contexts, the header of `place` is read once, and each table of tensor names is made once.

    It does nothing for a folder. The header of a vocabulary of 262,144 tokens takes a quarter of a minute to read.
    """
    global _open
    if _open or place.suffix != ".gguf" or find_spec("gguf") is None:
        yield
        return
    gguf: Any = import_module("gguf")
    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    _open, gguf.GGUFReader, gguf.get_tensor_name_map = True, cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        _open, (gguf.GGUFReader, gguf.get_tensor_name_map) = False, kept


@contextmanager
def hushed(path: Path) -> Iterator[None]:
    """Within the context, reading GGUF draws no progress bars, which no setting turns off, and does not read the header over and over."""
    if path.suffix != ".gguf":
        yield
        return
    with redirect_stderr(StringIO()), read_once(path):
        yield


def require_gguf(path: Path) -> GgufHeader:
    """The header of a GGUF file; raises ModelError where it is damaged, or a package for reading it is not installed."""
    for name in ("gguf", "accelerate"):
        if find_spec(name) is None:
            raise ModelError(f"{path} needs the package {name!r}, which is not here: pip install 'inheritune[gguf]'.")
    return read_gguf_header(path)


def gguf_config(path: Path, width: int) -> PretrainedConfig:
    """The config of a GGUF file, as in `gguf_shape`; raises ModelError too where it does not fit into memory at `width` bytes a number."""
    config = gguf_shape(path)
    require_memory(require_gguf(path).numbers * width + buffer_bytes(hollow(config)), path)
    return config


def gguf_shape(path: Path) -> PretrainedConfig:
    """The config of a GGUF file, checked: its tensors hold as many numbers as it asks for.

    Raises ModelError where it cannot be read, is no decoder, or disagrees with its tensors.
    """
    held = require_gguf(path).numbers
    try:
        with quiet(), hushed(path):
            config = plain_numbers(AutoConfig.from_pretrained(path.parent, gguf_file=path.name))
    except Exception as error:
        raise ModelError(f"{path} cannot be loaded: {type(error).__name__}: {plain(error)[:200]}") from error
    refuse_unsupported(config)
    asked = sum(parameter.numel() for parameter in hollow(config).parameters())
    if asked > held:
        raise ModelError(
            f"{path} holds {held:,} numbers, and its header tells of a model of {asked:,}: they do not belong together,"
            " so fetch it again."
        )
    return config


def note_unpacking(place: Path, depth: int, progress: Progress) -> None:
    """Say how a GGUF file, which each command unpacks anew, is made a folder once; nothing of a folder."""
    if place.suffix == ".gguf":
        command = f"inheritune inherit {quote(str(place))} whole --blocks 0-{depth - 1} --dtype float32"
        progress.note(
            f"Each command that reads its weights unpacks this file anew; as a folder it loads faster: {command}"
        )
