"""First tokens: transformers' own generation is the oracle."""

import pytest
import torch
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.evaluation import first_tokens as module
from inheritune.evaluation.first_tokens import FirstTokens, SameTokens, first_tokens, same_tokens


def test_they_are_what_generate_chooses(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are positions for after the longest prompt."""
    monkeypatch.setattr(module, "PROMPTS", ("kalo mine", "ruso tiva kalo mine"))
    model = untrained_model("llama", max_position_embeddings=32)
    found = first_tokens(model, tokenizer)
    longest = len(tokenizer("ruso tiva kalo mine")["input_ids"])
    assert [len(own.tokens) for own in found] == [min(24, 32 - longest)] * 2
    for own in found:
        ids_BT = tokenizer(own.prompt, return_tensors="pt").input_ids
        wanted = model.generate(
            ids_BT, max_new_tokens=len(own.tokens), min_new_tokens=len(own.tokens), do_sample=False, pad_token_id=0,
            output_logits=True, return_dict_in_generate=True, eos_token_id=None,
        )  # fmt: skip
        assert own.tokens == wanted.sequences[0, ids_BT.shape[1] :].tolist()
        best = torch.stack(wanted.logits)[:, 0].topk(2).values
        assert own.margins == pytest.approx((best[:, 0] - best[:, 1]).tolist(), abs=1e-5)


def test_tokens_are_the_same_until_they_part() -> None:
    ours = [FirstTokens("a", [5, 6, 7], [2.0, 0.25, 1.0]), FirstTokens("b", [1, 2, 3], [1.0, 1.0, 0.05])]
    assert same_tokens(ours, [[5, 6, 7], [1, 2, 3]]) == SameTokens(equal=6, total=6)
    assert same_tokens(ours, [[5, 6, 7], [1, 2, 4]]) == SameTokens(equal=5, total=6, parted=0.05)
    other = same_tokens(ours, [[5, 8, 7], [1, 2, 4]])
    assert other == SameTokens(equal=3, total=6, parted=0.25) and other.other_model
    assert str(other) == (
        "3 of 6 tokens as transformers chooses them in float32, and parts where the best choice leads by 0.250 nats at most"
    )
