import pytest
import torch
from test_training_costs import training
from tiny import untrained_model
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from inheritune.models.hollow import hollow
from inheritune.runtime.device import CPU, autocast
from inheritune.training import attention
from inheritune.training.activations import kept_for_backward


def half(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).bfloat16().requires_grad_()


@pytest.mark.parametrize("length", [1, 100, 128, 300])
@pytest.mark.parametrize("heads", [1, 4])
def test_output_and_gradients_by_torchs_own_in_double(length: int, heads: int) -> None:
    """Within bf16's rounding of the same product in float64, with keys and values shared by groups of heads."""
    query, key, value = (
        half(2, 4, length, 8, seed=0),
        half(2, heads, length, 8, seed=1),
        half(2, heads, length, 8, seed=2),
    )
    out, _ = attention.attend(nn.Module(), query, key, value, None, scaling=0.5, dropout=0.0)
    doubles = [x.detach().double().requires_grad_() for x in (query, key, value)]
    wanted = scaled_dot_product_attention(*doubles, is_causal=True, scale=0.5, enable_gqa=True).transpose(1, 2)
    pull = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    found = [out, *torch.autograd.grad(out, (query, key, value), pull.bfloat16())]
    expected = [wanted, *torch.autograd.grad(wanted, doubles, pull.bfloat16().double())]
    for one, other in zip(found, expected, strict=True):
        assert (one.double() - other).norm() < 0.02 * other.norm() + 1e-6


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_model_uses_it_in_half_precision_alone_and_is_left_as_it_was(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = untrained_model(family), []
    own = attention._Strips.apply
    monkeypatch.setattr(attention._Strips, "apply", lambda *args: calls.append(1) or own(*args))
    ids = torch.arange(1, 33)[None]
    for precision, expected in (("fp32", 0), ("bf16", model.config.num_hidden_layers)):
        calls.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"), attention.in_strips(model, precision):
            model(ids)
        assert len(calls) == expected and model.config._attn_implementation == "sdpa"


def test_no_token_sees_what_follows_it_after_a_plan_has_counted_the_same_pass() -> None:
    """The plan counts on tensors that hold nothing; none of them may be left for the training after it."""
    model, half = untrained_model("llama"), training(precision="bf16", micro_batch_size=1)
    kept_for_backward(hollow(model.config, type(model)).float(), half, 24)
    ids_BT, other_BT = torch.arange(24)[None], torch.arange(24)[None]
    other_BT[0, -1] = 99
    with torch.no_grad(), autocast("bf16", CPU), attention.in_strips(model, "bf16"):
        assert torch.equal(*(model(each).logits[:, :-1] for each in (ids_BT, other_BT)))


@pytest.mark.parametrize("rest", [{"dropout": 0.1}, {"is_causal": False}, {"softcap": 5.0}])
def test_what_is_not_plain_is_not_taken(rest: dict[str, float]) -> None:
    states = half(1, 2, 4, 8, seed=0)
    assert not attention._is_plain(nn.Module(), states, states, states, None, rest)
    assert not attention._is_plain(nn.Module(), states, states, states, torch.zeros(1, 1, 4, 4), {})
    assert attention._is_plain(nn.Module(), states, states, states, None, {})
