"""Two models beside each other: token by token against their own losses, and which documents are shown."""

import numpy as np
import pytest
import torch
from tiny import untrained_model
from transformers import PreTrainedTokenizerFast

from inheritune.evaluation.continuation import pieces
from inheritune.evaluation.samples import go_on, spread, token_gaps


def test_what_each_token_costs_more_is_the_difference_of_cross_entropies() -> None:
    target, reference = (untrained_model("llama", seed) for seed in (1, 2))
    row = torch.arange(3, 13)
    labels = row[1:].clone()
    labels[2] = -100

    def losses(model: torch.nn.Module) -> np.ndarray:
        with torch.no_grad():
            logits = model(row[None, :-1]).logits[0].log_softmax(-1)
        return -logits[torch.arange(9), row[1:]].double().numpy()

    wanted = losses(target) - losses(reference)
    wanted[2] = 0
    found = token_gaps(target, reference, row[:-1].numpy(), labels.numpy())
    assert found == pytest.approx(wanted, abs=1e-5)


def test_going_on_is_greedy_and_timed(tokenizer: PreTrainedTokenizerFast) -> None:
    model, ids = untrained_model("gpt2"), np.arange(5, 12)
    found = go_on(model, tokenizer, ids, 6)
    wanted = model.generate(
        torch.from_numpy(ids)[None],
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )[0, 7:]
    assert found.text == tokenizer.decode(wanted) and found.tokens == 6 and found.speed > 0
    assert go_on(model, tokenizer, ids, 1).speed == 0


def test_a_character_of_several_tokens_is_told_whole(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "kalo 🦙 mi"
    ids = tokenizer(text)["input_ids"]
    found = list(pieces(tokenizer, ids))
    assert "".join(found) == text and len(found) == len(ids) and "🦙" in found


@pytest.mark.parametrize(
    ("gaps", "chosen"),
    [
        ([0.3, -0.1, 0.2, 0.9, 0.1], {"best": 1, "middle": 2, "worst": 3}),
        ([0.5, 0.1], {"best": 1, "worst": 0}),
    ],
)
def test_the_best_the_middle_and_the_worst_are_shown(gaps: list[float], chosen: dict[str, int]) -> None:
    assert spread(np.asarray(gaps)) == chosen
