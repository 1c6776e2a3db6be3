"""The sequences that a diagnosis and a repair read."""

import json
from itertools import chain
from pathlib import Path

import pytest
from tiny import BEGIN, VOCABULARY, with_begin
from transformers import PreTrainedTokenizerFast

from inheritune.diagnosis.text import spread_windows
from inheritune.models.load import tokens_of


@pytest.mark.parametrize(("single", "begin"), [("$A", []), (f"{BEGIN} <second> $A", [VOCABULARY, VOCABULARY + 1])])
def test_every_sequence_opens_with_the_begin_and_the_text_goes_on_behind_it(
    single: str, begin: list[int], texts: list[str], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    words, some = with_begin(tokenizer, single), texts[:8]
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    (tmp_path / "some.txt").write_text(" ".join(some))
    packed = list(chain.from_iterable([*tokenizer(text)["input_ids"], 0] for text in some))
    for rows, ids in (
        (spread_windows(str(tmp_path / "some.jsonl"), words, 16, 999).tolist(), packed),
        (tokens_of(tmp_path / "some.txt", words, 16, 999).tolist(), tokenizer(" ".join(some))["input_ids"]),
    ):
        assert all(len(row) == 16 and row[: len(begin)] == begin for row in rows)
        read = list(chain.from_iterable(row[len(begin) :] for row in rows))
        assert read == ids[: len(read)] and len(ids) - len(read) < 16
    plain = spread_windows(str(tmp_path / "some.jsonl"), words, 16, 999, begin="none")
    assert plain.flatten().tolist() == packed[: plain.numel()] and len(packed) - plain.numel() < 16
