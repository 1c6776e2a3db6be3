"""Load reference models and tokenizers from a folder, the hub or the package; unusable ones are refused in one sentence."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from inheritune.decoder.anatomy import positions_of
from inheritune.errors import ModelError
from inheritune.models.find import BUNDLED, locate
from inheritune.models.folder import read_json
from inheritune.models.gguf import read_once
from inheritune.models.load import DTYPES, kept_dtype, load_model, tokenizer_at
from inheritune.runtime.device import device

__all__ = ["BUNDLED", "Reference", "load_reference", "load_tokenizer", "with_size"]

_NOTE = "training.json"


@dataclass(frozen=True)
class Reference:
    """A pretrained model with its tokenizer, in fp32, and how many tokens it was trained on, where that is known.

    `place` is the folder or GGUF file that it was loaded from, `dtype` the one that its weights are kept in there.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    trained_tokens: int | None
    place: Path
    dtype: torch.dtype

    def written_dtype(self, wanted: str) -> torch.dtype:
        """The dtype that a model made of it is written in: `auto`, its own, or another by name."""
        return self.dtype if wanted == "auto" else DTYPES[wanted]

    @property
    def positions(self) -> int | None:
        """The model's context length, in tokens; None where its config does not say."""
        return positions_of(self.model.config)


def load_reference(
    source: str, revision: str | None = None, trust: bool = False, place: Path | None = None
) -> Reference:
    """A reference from a folder, a GGUF file, a hub id or the package; ModelError says what is wrong with it.

    `trust`: code that the model brings may run; its tokenizer's does not. `place` is where the source is, if it was located already.
    """
    place = place or locate(source, revision, trust=trust)
    with read_once(place):
        model, tokenizer = load_model(place, torch.float32, trust, device()), _usable(tokenizer_at(place), source)
    return Reference(source, model, tokenizer, _trained_tokens(place), place, kept_dtype(place))


def with_size(source: str) -> str:
    """A source as it is named, with the size of its weights where it lies here: "model.gguf, 98 MB"."""
    place = Path(source)
    files = place.glob("*.safetensors") if place.is_dir() else [place] if place.is_file() else []
    size = sum(file.stat().st_size for file in files)
    return f"{source}, {size / 1e6:,.0f} MB" if size >= 1e6 else source


def load_tokenizer(source: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The fast tokenizer of a folder, GGUF file or hub id; ModelError if there is none, or it names no end of text."""
    return _usable(tokenizer_at(locate(source, revision, weights=False)), source)


def _usable(tokenizer: PreTrainedTokenizerBase, source: str) -> PreTrainedTokenizerFast:
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{source!r} has no fast tokenizer: add tokenizer.json")
    # Where the files are missing, transformers makes up a tokenizer of special tokens alone.
    if set(tokenizer.get_vocab()) <= set(tokenizer.get_added_vocab()):
        raise ModelError(f"{source!r} has no tokenizer: add tokenizer.json")
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer of {source!r} has no eos_token, which closes each document: set one")
    return tokenizer


def _trained_tokens(place: Path) -> int | None:
    """Tokens that a model was trained on, as `inheritune train` wrote beside its own model; None for any other."""
    tokens = read_json(place, _NOTE).get("tokens") if (place / _NOTE).is_file() else None
    return tokens if type(tokens) is int else None
