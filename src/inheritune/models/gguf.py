"""A GGUF file read once: transformers reads its header anew for config, weights and tokenizer, and makes a table of names a module."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_open = False


@contextmanager
def read_once(place: Path) -> Iterator[None]:
    """While the outermost of these is open, the header of `place` is read once, and each table of names is made once.

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
