"""Healing against cases that can be worked out: a run that ridge can replace exactly, and its own formula."""

import copy

import numpy as np
import pytest
import torch
from families import reference

from inheritune.blocks.anatomy import anatomy
from inheritune.blocks.heal import RIDGE, find_gaps, heal
from inheritune.blocks.modules import inherit
from inheritune.blocks.stack import Stack
from inheritune.errors import ModelError

TOKENS_BT = torch.randint(3, 96, (16, 32), generator=torch.Generator().manual_seed(4))


def away(target, model, place, last, tokens_BT):
    """Mean squared distance of the target's hidden state after `place` from the reference's after `last`."""
    own, parent = Stack(target, tokens_BT), Stack(model, tokens_BT)
    seen = own.run(own.hidden0, range(place + 1))
    return (seen - parent.run(parent.hidden0, range(last + 1))).pow(2).mean().item()


@pytest.mark.parametrize(
    ("blocks", "gaps"),
    [([0, 1, 2], [(2, 5)]), ([0, 2, 5], [(0, 1), (1, 4)]), ([0, 1, 1, 5], [(2, 4)]), (range(6), [])],
)
def test_gaps_are_where_blocks_are_missing(blocks, gaps):
    assert find_gaps(list(blocks), 6) == gaps


def test_a_constant_run_is_replaced_exactly():
    """A removed block that only adds a constant is just what a bias can take over."""
    model = copy.deepcopy(reference("gpt2"))
    with torch.no_grad():
        for parameter in model.transformer.h[3].parameters():
            parameter.zero_()
        model.transformer.h[3].mlp.c_proj.bias.copy_(torch.linspace(-2, 2, 32))
    target = inherit(model, [0, 1, 2, 4, 5])
    healing = heal(target, model, [0, 1, 2, 4, 5], TOKENS_BT)
    whole = Stack(model, TOKENS_BT[-2:]).whole_losses.mean().item()
    assert abs(healing.loss_before - whole) > 0.02
    assert healing.loss_after == pytest.approx(whole, abs=5e-4)
    assert healing.places == [2] and healing.tokens == 14 * 32


# Biases (gpt2), parallel attention and MLP (gpt_neox, phi, falcon, cohere), a scaled residual (granite).
@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox", "phi", "falcon", "cohere", "granite", "opt"])
def test_healing_comes_nearer_to_the_reference_s_hidden_states(family):
    model = reference(family)
    target = inherit(model, [0, 1, 4, 5])
    before = away(target, model, 1, 3, TOKENS_BT[:14])
    heal(target, model, [0, 1, 4, 5], TOKENS_BT)
    assert away(target, model, 1, 3, TOKENS_BT[:14]) < 0.9 * before


def test_the_refit_is_the_ridge_formula():
    model, blocks = reference("llama"), [0, 1, 4, 5]
    target = inherit(model, blocks)
    stack, parent = Stack(target, TOKENS_BT[:4]), Stack(model, TOKENS_BT[:4])
    matrix = anatomy(target).blocks[1].mlp.down_proj
    seen: list[torch.Tensor] = []
    handle = matrix.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    own = stack.run(stack.hidden0, [0, 1])
    handle.remove()
    missing = (parent.run(parent.hidden0, range(4)) - own).flatten(0, 1).double().numpy()
    inner = seen[-1].flatten(0, 1).double().numpy()
    weight = RIDGE * np.mean(np.sum(inner**2, axis=0))
    stretched = np.vstack([inner, np.sqrt(weight) * np.eye(inner.shape[1])])
    change = np.linalg.lstsq(stretched, np.vstack([missing, np.zeros((inner.shape[1], 32))]), rcond=None)[0]
    expected = matrix.weight.detach().double().numpy() + change.T
    heal(target, model, blocks, TOKENS_BT[:4])
    assert np.allclose(matrix.weight.detach().numpy(), expected, atol=1e-5)


def test_nothing_is_changed_where_nothing_is_missing():
    model = reference("llama")
    target = inherit(model, range(6))
    healing = heal(target, model, range(6), TOKENS_BT)
    assert healing.places == [] and healing.loss_before == healing.loss_after
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("family", ["gemma2", "olmo2", "glm4", "mixtral", "gpt_oss"])
def test_blocks_without_one_closing_matrix_on_the_residual_are_refused(family):
    model = reference(family)
    with pytest.raises(ModelError, match=f"Cannot heal '{family}'"):
        heal(inherit(model, [0, 1, 4, 5]), model, [0, 1, 4, 5], TOKENS_BT[:2])
