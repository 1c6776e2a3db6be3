import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import VOCABULARY
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast

from inheritune.config.sections import Data
from inheritune.data import building, tokens
from inheritune.data.coding import Coding
from inheritune.data.tokens import Tokens, prepare
from inheritune.errors import DataError, OutputError


def prepared(tokenizer: PreTrainedTokenizerFast, train: Path, **fields: Any) -> tuple[Tokens, Tokens]:
    data = Data(train=str(train), **fields)
    return prepare(data, Coding.of(tokenizer.backend_tokenizer, tokenizer.eos_token_id), VOCABULARY)


def documents(side: Tokens) -> list[tuple[int, ...]]:
    return [tuple(side.document(index).tolist()) for index in range(len(side.starts))]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_split_keeps_every_document_whole_on_one_side(
    tokenizer: PreTrainedTokenizerFast, corpus: Path, texts: list[str]
) -> None:
    train, valid = (documents(side) for side in prepared(tokenizer, corpus / "words.jsonl", valid_share=0.2))
    wanted = {(*tokenizer(text)["input_ids"], 0) for text in texts}
    assert set(train) | set(valid) == wanted and not set(train) & set(valid)
    assert 0.1 < len(valid) / len(wanted) < 0.3


def test_split_is_by_a_hash_of_the_name_alone(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    """A file of the same name with half the documents and other text leaves each on its side."""
    tmp_path.joinpath("later").mkdir()
    before = write_jsonl(tmp_path / "a.jsonl", texts)
    later = write_jsonl(tmp_path / "later" / "a.jsonl", [f"{text} mika" for text in texts[:75]])
    held = set(documents(prepared(tokenizer, before, valid_share=0.2)[1]))
    held_later = set(documents(prepared(tokenizer, later, valid_share=0.2)[1]))
    sides = [(*tokenizer(text)["input_ids"], 0) in held for text in texts[:75]]
    assert sides == [(*tokenizer(f"{text} mika")["input_ids"], 0) in held_later for text in texts[:75]]
    assert True in sides and False in sides


def test_hash_of_a_name_is_uniform() -> None:
    held = sum(tokens.on_validation_side(f"name {number}", 0.25) for number in range(4000))
    assert 900 < held < 1100
    digest = int.from_bytes(hashlib.blake2b(b"x", digest_size=8).digest(), "big") / 2**64
    assert tokens.on_validation_side("x", digest + 1e-9) and not tokens.on_validation_side("x", digest - 1e-9)


def test_exact_repeats_stand_once(tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path) -> None:
    sides = prepared(tokenizer, write_jsonl(tmp_path / "a.jsonl", texts * 3), valid_share=0.2)
    found = documents(sides[0]) + documents(sides[1])
    assert len(found) == len(set(found)) == len(set(texts))


def test_validation_file_takes_its_documents_out_of_training(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    valid = write_jsonl(tmp_path / "valid.jsonl", texts[:20])
    train, held = prepared(tokenizer, write_jsonl(tmp_path / "train.jsonl", texts), valid=str(valid))
    assert len(documents(held)) == 20 and len(documents(train)) == 130
    assert not set(documents(train)) & set(documents(held))


def test_validation_that_is_training_is_refused(tokenizer: PreTrainedTokenizerFast, corpus: Path) -> None:
    with pytest.raises(DataError, match=r"data\.valid is data\.train"):
        prepared(tokenizer, corpus / "words.jsonl", valid=str(corpus / ".." / corpus.name / "words.jsonl"))


def test_bin_is_read_as_it_is(tokenizer: PreTrainedTokenizerFast, corpus: Path, texts: list[str]) -> None:
    train, valid = prepared(tokenizer, corpus / "words.bin", valid_share=0.2)
    row = np.fromfile(corpus / "words.bin", dtype="<u2").tolist()
    assert len(train) + len(valid) == len(row)
    assert set(documents(train)) | set(documents(valid)) == {(*tokenizer(text)["input_ids"], 0) for text in texts}


def test_bin_with_an_odd_byte(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tmp_path.joinpath("odd.bin").write_bytes(b"\1\0\2")
    with pytest.raises(DataError, match="odd number of bytes"):
        prepared(tokenizer, tmp_path / "odd.bin")


def test_bin_of_another_vocabulary(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    rows = [[5, number + 1, 40_000, 0] for number in range(60)]
    np.asarray(rows, dtype="<u2").tofile(tmp_path / "other.bin")
    with pytest.raises(DataError, match="token 40000, beyond the model's 320"):
        prepared(tokenizer, tmp_path / "other.bin", valid_share=0.3)


def test_text_file_loses_no_word(tokenizer: PreTrainedTokenizerFast, corpus: Path, texts: list[str]) -> None:
    sides = prepared(tokenizer, corpus / "words.txt", valid_share=0.4)
    found = [tokenizer.decode(document[:-1]) for side in sides for document in documents(side)]
    assert sorted("\n\n".join(found).split()) == sorted("\n\n".join(texts * 2).split())


def test_second_time_comes_from_the_cache(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts)
    before = prepared(tokenizer, path, valid_share=0.2)
    builds: list[int] = []
    monkeypatch.setattr(building, "_fill", lambda *_: builds.append(1))
    after = prepared(tokenizer, path, valid_share=0.2)
    assert not builds and documents(after[1]) == documents(before[1])


def test_changed_text_is_read_again(tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path) -> None:
    before = prepared(tokenizer, write_jsonl(tmp_path / "a.jsonl", texts), valid_share=0.2)
    after = prepared(tokenizer, write_jsonl(tmp_path / "a.jsonl", texts[:100]), valid_share=0.2)
    assert len(after[0].starts) + len(after[1].starts) == 100 != len(before[0].starts) + len(before[1].starts)


def test_another_field_of_the_same_rows_is_other_text(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "two.jsonl"
    rows = [{"text": text, "code": f"{text} mika"} for text in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for field in ("text", "code", "text"):
        sides = prepared(tokenizer, path, valid_share=0.2, field=field)
        found = set(documents(sides[0])) | set(documents(sides[1]))
        assert found == {(*tokenizer(row[field])["input_ids"], 0) for row in rows}, field


def test_a_tokenizer_that_cuts_otherwise_is_another_though_its_words_are_the_same(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [text.upper() for text in texts])
    lower = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    lower.normalizer = normalizers.Lowercase()
    assert lower.get_vocab() == tokenizer.backend_tokenizer.get_vocab()
    before = prepared(tokenizer, path, valid_share=0.2)
    after = prepare(Data(train=str(path), valid_share=0.2), Coding.of(lower, 0), VOCABULARY)
    wanted = {(*tokenizer(text)["input_ids"], 0) for text in texts}
    assert set(documents(after[0])) | set(documents(after[1])) == wanted
    assert not wanted & set(documents(before[0]))


def test_cache_that_cannot_be_written(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("file").write_text("")
    monkeypatch.setenv("INHERITUNE_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match="set INHERITUNE_CACHE"):
        prepared(tokenizer, write_jsonl(tmp_path / "a.jsonl", texts))


def test_too_few_documents_to_hold_some_back(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 document.s.*share of 0.05.*too few.*data.valid_share"):
        prepared(tokenizer, write_jsonl(tmp_path / "few.jsonl", ["ka lo", "mi ne"]))
