"""Models and tokenizers in: from a folder, the hub or the package, refused in one sentence where they are no use."""

import json
from importlib import resources
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from inheritune.errors import ModelError


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder or hub id; ModelError if there is none, or it names no end of text."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{source!r} has no tokenizer that transformers can read ({reason}): add tokenizer.json") from None
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{source!r} has no fast tokenizer: add tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {source!r} has no eos_token, which closes each document: set one")
    return tokenizer
