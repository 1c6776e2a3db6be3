"""The begin of text: the ids that a tokenizer's own encoding puts in front of a text, mostly one (BOS) or none.

A model that was trained with a begin of text can fail without it, so it is put in front of every sequence used for training,
validation, diagnosis or repair, also of one that starts inside a document. No loss asks for it.
"""

import difflib
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from inheritune.errors import RecipeError

AUTO, NONE = "auto", "none"
_PROBE = "A few words, 1 2 3"


@dataclass(frozen=True)
class Begin:
    """The ids that stand in front of a text; most tokenizers put one there, or none."""

    ids: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unasked(self) -> int:
        """How many of a sequence's labels belong to the begin itself: all of its ids but the first, which is no label."""
        return max(0, len(self.ids) - 1)

    def stands_before(self, ids: np.ndarray) -> bool:
        """Whether `ids` open with it."""
        return bool(self.ids) and tuple(ids[: len(self.ids)]) == self.ids

    def without(self, ids: np.ndarray) -> np.ndarray:
        """`ids` without the begin that they may open with."""
        return ids[len(self.ids) :] if self.stands_before(ids) else ids

    def before(self, ids: np.ndarray) -> np.ndarray:
        """`ids` with the begin in front."""
        return np.concatenate([np.asarray(self.ids, ids.dtype), ids]) if self.ids else ids

    def opening(self, ids: np.ndarray) -> np.ndarray:
        """`ids` with the begin in front, which is put there unless it is there already."""
        return ids if self.stands_before(ids) else self.before(ids)

    def asked(self, ids: np.ndarray, asked: np.ndarray | None = None) -> np.ndarray:
        """Mask of the tokens of `opening(ids)` that losses ask for: none of the begin, and of `ids` those in `asked` (None: all)."""
        asked = np.ones(len(ids), dtype=bool) if asked is None else asked
        own = asked[len(self.ids) :] if self.stands_before(ids) else asked
        return np.concatenate([np.zeros(len(self.ids), dtype=bool), own])


def begin_of(tokenizer: PreTrainedTokenizerBase, wanted: str = AUTO) -> Begin:
    """The begin of text: what the tokenizer itself puts there (`auto`), nothing (`none`), or a token given by its text.

    Raises RecipeError for a token that the tokenizer does not have.
    """
    if wanted == NONE:
        return Begin()
    if wanted != AUTO:
        return Begin(_by_hand(tokenizer, wanted))
    bare = tokenizer.encode(_PROBE, add_special_tokens=False)
    whole = tokenizer.encode(_PROBE, add_special_tokens=True)
    places = range(len(whole) - len(bare) + 1)
    return Begin(tuple(whole[: next((place for place in places if whole[place : place + len(bare)] == bare), 0)]))


def begin_told(begin: Begin, tokenizer: PreTrainedTokenizerBase) -> str:
    """A begin as `data.begin` names it."""
    return "".join(tokenizer.convert_ids_to_tokens(list(begin.ids))) or NONE


def _by_hand(tokenizer: PreTrainedTokenizerBase, wanted: str) -> tuple[int, ...]:
    vocabulary, added = tokenizer.get_vocab(), tokenizer.get_added_vocab()
    if wanted in vocabulary:
        return (vocabulary[wanted],)
    found = tokenizer.encode(wanted, add_special_tokens=False)
    if found and set(found) <= set(added.values()):
        return tuple(found)
    near = difflib.get_close_matches(wanted, added, 1, 0.0) or difflib.get_close_matches(wanted, vocabulary, 1)
    hint = f"did you mean {near[0]!r}?" if near else "name one, auto or none"
    raise RecipeError(f"data.begin is {wanted!r}, which is no token of the tokenizer: {hint}")
