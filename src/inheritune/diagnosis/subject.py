"""What is diagnosed: a loaded model or one by its name, on tokens or on text."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import anatomy
from inheritune.diagnosis.sequences import TokenRows, unpadded
from inheritune.diagnosis.text import CHARACTERS_A_TOKEN, read_text
from inheritune.errors import InputError
from inheritune.models.begin import begin_of
from inheritune.models.find import locate
from inheritune.models.gguf import read_once
from inheritune.models.load import load_model, tokenizer_at
from inheritune.records.profile import DocumentsRead
from inheritune.runtime.device import device

NamedModel = PreTrainedModel | str | Path
Texts = str | Path | Sequence[str]
_LONGEST_NAME = 1024


def on_tokens(
    model: NamedModel, tokens: TokenRows, attention_mask: TokenRows | None, unasked: int
) -> tuple[PreTrainedModel, list[Tensor]]:
    """The model, loaded where it is a folder, a .gguf file or a hub id, and its sequences without padding."""
    decoder = load_model(locate(str(model)), on=device()) if isinstance(model, str | Path) else model
    anatomy(decoder)  # so that a model that is no decoder is refused before anything else
    return decoder, unpadded(decoder, tokens, attention_mask, unasked)


def on_text(
    model: NamedModel, text: Texts, tokenizer: PreTrainedTokenizerBase | None, length: int, count: int
) -> tuple[PreTrainedModel, list[Tensor], int, DocumentsRead]:
    """The model, `count` sequences of `length` tokens of a text, how many labels of each are of the begin of text, and the documents.

    Raises InputError for a model that does not say where its tokenizer is, DataError for text that is missing or too short.
    """
    source = _source(text)
    if isinstance(model, str | Path):
        place = locate(str(model))
        with read_once(place):
            decoder, words = load_model(place, on=device()), tokenizer or tokenizer_at(place)
    else:
        anatomy(model)
        decoder, words = model, tokenizer or _own(model)
    windows = read_text(source, words, CHARACTERS_A_TOKEN * length * count).windows(words, length, count)
    unasked = begin_of(words).unasked
    return decoder, unpadded(decoder, windows.tokens_NT, None, unasked), unasked, windows.documents


def _own(model: PreTrainedModel) -> PreTrainedTokenizerBase:
    if not model.config.name_or_path:
        raise InputError("This model does not say where its tokenizer is: give tokenizer= beside text=.")
    return tokenizer_at(locate(model.config.name_or_path, weights=False))


def _source(text: Texts) -> str | list[str]:
    if isinstance(text, str | Path):
        if "\n" in str(text) or len(str(text)) > _LONGEST_NAME:
            raise InputError(
                "text= names a source of text, such as a file, and this is text itself: give it in a list."
            )
        return str(text)
    if not all(isinstance(one, str) for one in text):
        raise InputError("text= takes a source of text, or a list of texts: give ids as tokens.")
    return list(text)
