"""How a model goes on with a prompt: the likeliest token each time, told piece by piece as text."""

from collections.abc import Iterator

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import positions_of
from inheritune.errors import InputError
from inheritune.models.begin import begin_of


def continuation(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, most: int) -> Iterator[str]:
    """The text after a prompt, in pieces, up to `most` tokens or the tokenizer's end of text.

    The prompt is read behind the tokenizer's begin of text. Raises InputError for a prompt without tokens, or one that the model has no
    positions for.
    """
    begin = begin_of(tokenizer)
    ids = [*begin.ids, *tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]]
    positions = positions_of(model.config) or len(ids) + most
    if not ids:
        raise InputError("the prompt is empty: give some words to go on from")
    if len(ids) >= positions:
        raise InputError(f"the prompt has {len(ids):,} tokens, and the model {positions:,} positions: make it shorter")
    told, found = "", list[int]()
    for token in _greedy(model, ids, min(most, positions - len(ids))):
        if token == tokenizer.eos_token_id:
            break
        found.append(token)
        text = str(tokenizer.decode(found))
        if not text.endswith("\N{REPLACEMENT CHARACTER}"):  # a character of several tokens is told whole
            yield text[len(told) :]
            told = text


def _greedy(model: PreTrainedModel, ids: list[int], most: int) -> Iterator[int]:
    """The likeliest tokens after `ids`, one by one, each read once."""
    following, kept = torch.tensor([ids], device=model.device), None
    for _ in range(most):
        with torch.no_grad():
            output = model(input_ids=following, past_key_values=kept, use_cache=True)
        kept, following = output.past_key_values, output.logits[:, -1:].argmax(-1)
        yield int(following)
