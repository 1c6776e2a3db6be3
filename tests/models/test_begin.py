"""What a tokenizer puts in front of a text, and how it gets in front of rows of ids."""

import numpy as np
import pytest
from tiny import BEGIN, VOCABULARY, with_begin
from transformers import PreTrainedTokenizerFast

from inheritune.errors import RecipeError
from inheritune.models.begin import Begin, begin_of, begin_told

END = "<|endoftext|>"


@pytest.mark.parametrize(
    ("single", "ids"),
    [
        ("$A", ()),
        (f"$A {END}", ()),
        (f"{BEGIN} $A", (VOCABULARY,)),
        (f"{BEGIN} $A {END}", (VOCABULARY,)),
        (f"{END} $A", (0,)),
        (f"{BEGIN} <second> $A", (VOCABULARY, VOCABULARY + 1)),
    ],
)
def test_it_is_what_the_tokenizers_own_encoding_begins_with(
    single: str, ids: tuple[int, ...], tokenizer: PreTrainedTokenizerFast
) -> None:
    words = with_begin(tokenizer, single)
    begin = begin_of(words)
    assert begin.ids == ids and begin.unasked == max(0, len(ids) - 1)
    assert tuple(words("kalo mine")["input_ids"][: len(ids)]) == ids
    assert begin_of(words, "none") == Begin()
    if ids:
        assert begin_of(tokenizer if ids == (0,) else words, begin_told(begin, words)) == begin


def test_a_token_by_hand_or_the_nearest(tokenizer: PreTrainedTokenizerFast) -> None:
    assert begin_of(tokenizer, END).ids == (0,) and begin_told(Begin(), tokenizer) == "none"
    with pytest.raises(RecipeError, match=r"data.begin is '<bgin>'.*did you mean '<begin>'"):
        begin_of(with_begin(tokenizer), "<bgin>")


def test_it_stands_in_front_once() -> None:
    begin, ids = Begin((7, 8)), np.asarray([1, 2], "<u2")
    assert begin.before(ids).tolist() == begin.opening(ids).tolist() == [7, 8, 1, 2]
    assert begin.opening(begin.before(ids)).tolist() == [7, 8, 1, 2] and begin.before(ids).dtype == ids.dtype
    assert begin.without(begin.before(ids)).tolist() == begin.without(ids).tolist() == [1, 2]
    assert Begin().opening(ids) is ids and Begin().without(ids) is ids
