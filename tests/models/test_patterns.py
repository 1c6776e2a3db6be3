"""A tokenizer whose regex backtracks without end is refused; those that models have are not, and soon tried."""

import json
import time

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from inheritune.errors import ModelError
from inheritune.models.load import tokenizer_at
from inheritune.models.patterns import require_quick

SOUND = {
    "gpt-4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+",
    "gpt-4o": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "deepseek": r"[A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "bloom": r" ?[^(\s|[.,!?\u2026])]+",
}
ENDLESS = {
    "nested": "(a+)+$",
    "either": "(x|x)*$",
    "words": r"(\w+\s?)+$",
    "commas": "(.*,)*q",
    "thrice": r"\s*\s*\s*$",
}


def splitting(pattern: str, normalizes: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    if normalizes:
        made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(pattern), "")])
    else:
        made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated")])
    return made


@pytest.mark.parametrize("normalizes", [False, True])
@pytest.mark.parametrize("name", SOUND)
def test_what_models_have_is_soon_tried(name, normalizes, tmp_path):
    began = time.thread_time()
    require_quick(splitting(SOUND[name], normalizes), tmp_path)
    assert time.thread_time() - began < 10


@pytest.mark.parametrize("normalizes", [False, True])
@pytest.mark.parametrize("name", ENDLESS)
def test_what_goes_on_without_end_is_refused(name, normalizes, tmp_path, capfd):
    with pytest.raises(ModelError, match="takes too long on a run of"):
        require_quick(splitting(ENDLESS[name], normalizes), tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_tokenizer_without_parts_is_not_tried(tmp_path):
    require_quick(Tokenizer(models.BPE()), tmp_path)


def test_a_folder_with_such_a_tokenizer_is_refused(tmp_path):
    splitting("(a+)+$", False).save(str(tmp_path / "tokenizer.json"))
    about = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    with pytest.raises(ModelError, match=r"takes too long on a run of 'a' \('\(a\+\)\+\$'\)"):
        tokenizer_at(tmp_path)
