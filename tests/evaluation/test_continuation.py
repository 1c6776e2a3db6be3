"""What a model says after a prompt, against transformers' own greedy generation."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import command, refused
from transformers import AutoModelForCausalLM, AutoTokenizer

from inheritune.errors import InputError
from inheritune.evaluation.continuation import continuation

PROMPT = "kalo mine"


def by_transformers(place: Path, most: int) -> str:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    ids = tokenizer(PROMPT, return_tensors="pt", add_special_tokens=False)
    whole = model.generate(**ids, max_new_tokens=most, do_sample=False)[0, ids["input_ids"].shape[1] :]
    return str(tokenizer.decode([int(token) for token in whole if token != tokenizer.eos_token_id]))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_it_is_what_transformers_generates(references: Callable[[str], Path], family: str) -> None:
    place = references(family)
    ended = command("generate", str(place), PROMPT, "--tokens", "12", "--quiet")
    assert ended.code == 0 and ended.out == by_transformers(place, 12) + "\n"


def test_two_models_stand_below_each_other_in_a_pipe(
    references: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = references("gpt2"), references("llama")
    monkeypatch.setattr("sys.stdin", io.StringIO(PROMPT + "\n"))
    ended = command("generate", str(one), "--reference", str(other), "--tokens", "8", "--quiet")
    wanted = [f"{place}:\n{by_transformers(place, 8).strip()}" for place in (one, other)]
    assert ended.out == "\n\n".join(wanted) + "\n"


def test_it_ends_with_the_models_positions(gpt2: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(gpt2), AutoTokenizer.from_pretrained(gpt2)
    long = "kalo mine " * 12
    room = 64 - len(tokenizer(long)["input_ids"])
    assert room > 0
    assert len(list(continuation(model, tokenizer, long, 500))) <= room
    with pytest.raises(InputError, match="64 positions"):
        next(continuation(model, tokenizer, long * 9, 1))
    with pytest.raises(InputError, match="the prompt is empty"):
        next(continuation(model, tokenizer, "", 1))


def test_what_is_refused(gpt2: Path, tmp_path: Path) -> None:
    assert "does not exist" in refused("generate", str(tmp_path / "nowhere"), PROMPT, "--quiet")
    assert "the prompt is empty" in refused("generate", str(gpt2), "", "--quiet")
