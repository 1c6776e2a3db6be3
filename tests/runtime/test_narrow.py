import copy
from collections.abc import Iterable

import families
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import is_tied
from inheritune.runtime.device import CPU, autocast
from inheritune.runtime.narrow import narrow, widen
from inheritune.surgery.in_memory import as_map, assemble
from inheritune.training.halves import in_halves

TOKENS_BT = torch.arange(24).view(2, 12) + 3
FAMILIES = ["scaled", "llama", "gemma3_text", "qwen3"]


def published(family: str, dtype: torch.dtype) -> PreTrainedModel:
    """A tiny model in fp32 whose weights are all numbers of `dtype`."""
    model = copy.deepcopy(families.reference(family)).eval()
    for weight in model.parameters():
        weight.data = weight.data.to(dtype).float()
    return model


def same(ones: Iterable[Tensor], others: Iterable[Tensor]) -> bool:
    pairs = zip(ones, others, strict=True)
    return all(one.dtype == other.dtype and torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_kept_narrow_takes_half_and_comes_back_to_the_bit(family: str, dtype: torch.dtype) -> None:
    """What is computed from the config, rotary frequencies and Gemma's scale, is never touched, and what is tied stays so."""
    model = published(family, dtype)
    before, size, tied = copy.deepcopy(model), sum(weight.nbytes for weight in model.parameters()), is_tied(model)
    narrow(model, dtype)
    assert sum(weight.nbytes for weight in model.parameters()) * 2 == size
    assert same(model.buffers(), before.buffers()) and is_tied(model) == tied
    widen(model.parameters())
    assert same(model.parameters(), before.parameters()) and is_tied(model) == tied
    with torch.no_grad():
        assert torch.equal(model(TOKENS_BT).logits, before(TOKENS_BT).logits)


@pytest.mark.parametrize("value", [1 + 2.0**-9, 2.0**-140 * 1.5, 1e-40, float("nan")])
def test_a_weight_with_one_value_that_is_not_held_stays_whole(value: float) -> None:
    """Of two, the other alone is kept narrow; the sign of zero and infinity are held."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[-0.0, float("inf"), 1, 2], [0, 0, 0, value]]))
        model.bias.copy_(torch.tensor([-0.0, float("-inf")]))
    before = [weight.detach().view(torch.int32).clone() for weight in model.parameters()]
    narrow(model, torch.bfloat16)
    assert (model.weight.dtype, model.bias.dtype) == (torch.float32, torch.bfloat16)
    widen(model.parameters())
    assert same((weight.detach().view(torch.int32) for weight in model.parameters()), before)


def test_a_file_in_fp32_is_kept_as_it_is() -> None:
    model = published("llama", torch.bfloat16)
    narrow(model, torch.float32)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_cut_and_a_teacher_of_what_is_kept_narrow_have_the_same_bits(family: str) -> None:
    """Also where a cut multiplies queries by what their block's index gave (GPT-2), or computes a scale (Gemma)."""
    whole = published(family, torch.bfloat16)
    kept = copy.deepcopy(whole)
    narrow(kept, torch.bfloat16)
    wanted, made = assemble([whole], as_map([0, 2, 5])), assemble([kept], as_map([0, 2, 5]), dtype=torch.float32)
    widen(made.parameters())
    assert same(made.parameters(), wanted.parameters()) and same(made.buffers(), wanted.buffers())
    assert made.config.to_dict() == wanted.config.to_dict()
    assert same(in_halves(kept).parameters(), in_halves(whole).parameters())
    with torch.no_grad(), autocast("bf16", CPU):
        assert torch.equal(in_halves(kept)(TOKENS_BT).logits, whole(TOKENS_BT).logits)
    assert {weight.dtype for weight in kept.parameters()} == {torch.bfloat16}, "it is itself as it was"
