"""Continue a prompt greedily, as a stream of pieces of text."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.anatomy import positions_of
from inheritune.decoder.outputs import kept_cache, last_alone
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
    ids_1T = torch.tensor([ids], device=model.device)
    chosen = (int(logits_1V.argmax()) for logits_1V in greedy_logits(model, ids_1T, min(most, positions - len(ids))))
    told = pieces(tokenizer, takewhile(lambda token: token != tokenizer.eos_token_id, chosen))
    yield from (piece for piece in told if piece)


def pieces(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> Iterator[str]:
    """Yield the text that each token adds; of a character of several tokens, the last token adds it whole and the others nothing."""
    told, found = "", list[int]()
    for token in ids:
        found.append(token)
        text = str(tokenizer.decode(found))
        if text.endswith("\N{REPLACEMENT CHARACTER}"):
            yield ""
        else:
            yield text[len(told) :]
            told = text


def greedy_logits(model: PreTrainedModel, ids_BT: Tensor, most: int) -> Iterator[Tensor]:
    """Yield the logits (B, V) of each of the next `most` tokens of rows of one length, decoded greedily with a cache.

    A model without a cache reads all tokens again for each new one.
    """
    read_BT, kept, flags = ids_BT, dict[str, Any](), last_alone(model)
    for _ in range(most):
        with torch.no_grad():
            output = model(input_ids=read_BT, use_cache=True, **flags, **kept)
        logits_BV = output.logits[:, -1]
        yield logits_BV
        next_B1 = logits_BV.argmax(-1, keepdim=True)
        kept = kept_cache(model, output)
        read_BT = next_B1 if kept else torch.cat([read_BT, next_B1], dim=1)
