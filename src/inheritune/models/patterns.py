"""Try a tokenizer's regexes on long runs of one character: one that backtracks without end is refused before it reads any text."""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from inheritune.errors import ModelError

_LENGTH, _SECONDS = 4096, 3.0  # characters of a run; processor seconds, of which sound regexes take a thirtieth
_ALWAYS, _MOST, _BEHIND = (
    "a0 ,\n",
    32,
    "\x01\n",
)  # characters that are always tried, how many are tried at most, and what ends a run, as no regex matches beyond it


def require_quick(tokenizer: Tokenizer, path: Path) -> None:
    """Raise ModelError for a tokenizer whose regexes take too long, or give up, on a run of one character."""
    for part, split in _parts(tokenizer):
        patterns = list(_patterns(json.loads(part.__getstate__())))
        letters = "".join(dict.fromkeys(_ALWAYS + "".join(re.findall(r"[^\\()|{}\[\]]", "".join(patterns)))))[:_MOST]
        for letter in letters if patterns else "":
            if not _is_quick(split, letter * _LENGTH + _BEHIND + letters):
                raise ModelError(
                    f"{path} splits text by a regex that takes too long on a run of {letter!r} ({patterns[0]!r:.80}):"
                    " fetch its tokenizer.json again, or take another tokenizer."
                )


def _parts(tokenizer: Tokenizer) -> Iterator[tuple[Any, Callable[[str], object]]]:
    if tokenizer.normalizer is not None:
        yield tokenizer.normalizer, tokenizer.normalizer.normalize_str
    if tokenizer.pre_tokenizer is not None:
        yield tokenizer.pre_tokenizer, tokenizer.pre_tokenizer.pre_tokenize_str


def _patterns(tree: Any) -> Iterator[str]:
    """Every regex in the JSON of a part."""
    if isinstance(tree, dict) and isinstance(tree.get("Regex"), str):
        yield tree["Regex"]
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _patterns(value)


def _is_quick(split: Callable[[str], object], text: str) -> bool:
    """Whether this text is split in time; a regex that gives up panics, and counts as slow."""
    began = time.thread_time()
    try:
        with _unsaid():
            split(text)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return False
    return time.thread_time() - began < _SECONDS


@contextmanager
def _unsaid() -> Iterator[None]:
    """Within the context, discard the process's standard error, to which the library itself prints a panic."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
