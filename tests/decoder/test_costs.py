"""FLOPs against torch's own counter."""

import pytest
import torch
from families import FAMILIES, reference
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from inheritune.decoder.costs import forward_flops_per_token, parameter_count

LENGTH = 32


@pytest.mark.parametrize("family", FAMILIES)
def test_a_forward_pass_costs_what_torch_counts(family):
    model = reference(family)
    kept = model.config._attn_implementation
    model.set_attn_implementation("eager")
    model.set_experts_implementation("eager")  # torch does not count grouped products
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(torch.full((1, LENGTH), 5), use_cache=False)
    model.set_attn_implementation(kept)
    model.set_experts_implementation(None)
    ours = forward_flops_per_token(model, LENGTH) * LENGTH
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_tied_parameters_count_once():
    model = reference("gpt2")
    assert parameter_count(model) == sum(
        tensor.numel() for name, tensor in model.state_dict().items() if name != "lm_head.weight"
    )
