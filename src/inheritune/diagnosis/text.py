"""Text to the sequences that a diagnosis reads. N sequences of T tokens."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from inheritune.data.corpora import documents
from inheritune.data.documents import Document
from inheritune.errors import DataError
from inheritune.models.begin import AUTO, begin_of
from inheritune.models.chat import chat_of

# Text read, in characters, for every token asked for: enough to choose sequences from, little enough to tokenise quickly.
CHARACTERS_A_TOKEN = 40


def spread_windows(
    source: str | list[str],
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    count: int,
    field: str = "text",
    begin: str = AUTO,
) -> Tensor:
    """`count` sequences of `length` tokens that do not overlap, evenly spread over the first part of a text: (N, T).

    `source` is one as `--text` names it, or a list of texts.
    Documents follow one another with the end token between, and the begin of text (as in a recipe's `data.begin`) opens each
    sequence. Raises DataError if the text is too short for one sequence, RecipeError for a begin that is no token.
    """
    if length < 2 or count < 1:
        raise DataError(f"{count} sequences of {length} tokens were asked for: at least 1 of at least 2 are needed.")
    opens, ids = begin_of(tokenizer, begin), list[int]()
    own = length - len(opens)
    left = CHARACTERS_A_TOKEN * length * count
    for document in _documents(source, field, tokenizer):
        if left <= 0:
            break
        found = tokenizer(document.text[:left], add_special_tokens=False, verbose=False)["input_ids"]
        ids += opens.without(found)
        if tokenizer.eos_token_id is not None and not (document.messages and ids[-1:] == [tokenizer.eos_token_id]):
            ids.append(tokenizer.eos_token_id)
        left -= len(document.text)
    if own < 1 or len(ids) < own:
        raise DataError(
            f"{_told(source)} holds {len(ids)} tokens: a sequence of {length} needs more text or a smaller --length."
        )
    rows = np.asarray(ids[: len(ids) // own * own]).reshape(-1, own)
    all_WT = torch.from_numpy(np.stack([opens.before(row) for row in rows]))
    chosen = torch.linspace(0, len(all_WT) - 1, min(count, len(all_WT))).round().long()
    return all_WT[chosen]


def _documents(source: str | list[str], field: str, tokenizer: PreTrainedTokenizerBase) -> Iterable[Document]:
    if isinstance(source, str):
        return documents(source, field, chat_of(tokenizer))
    return [Document("", text) for text in source]


def _told(source: str | list[str]) -> str:
    return repr(source) if isinstance(source, str) else "The text"
