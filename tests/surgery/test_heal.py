"""Healing against cases that can be worked out: a run that ridge can replace exactly, and its own formula."""

import copy

import numpy as np
import pytest
import torch
from families import FAMILIES, reference

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import Stack
from inheritune.errors import ModelError
from inheritune.surgery import heal as heal_module
from inheritune.surgery.heal import find_gaps, heal
from inheritune.surgery.in_memory import inherit
from inheritune.surgery.refit import RIDGE, refit

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


def test_a_repair_that_is_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    """Four passes through the reference, of four sequences each but for the last, and three blocks of the target, two refitted."""
    monkeypatch.setattr(heal_module, "CHUNK_TOKENS", 128)
    model, blocks, told = reference("gpt2"), [0, 2, 3, 5], []
    plain = inherit(model, blocks)
    wanted = heal(plain, model, blocks, TOKENS_BT, count=lambda done, total: told.append((done, total)))
    assert told == [(done, 7) for done in range(8)] and wanted.places == [0, 2]

    def attempt(at):
        passes, fits, target = [], [], inherit(model, blocks)
        hook = model.register_forward_pre_hook(lambda *_: passes.append(1))
        monkeypatch.setattr(heal_module, "refit", lambda *given: fits.append(1) or refit(*given))

        def stop(done, _total):
            if done == at:
                raise KeyboardInterrupt

        try:
            return heal(target, model, blocks, TOKENS_BT, count=stop, kept=tmp_path / "repair"), target, passes, fits
        except KeyboardInterrupt:
            return None, target, passes, fits
        finally:
            hook.remove()

    for at, done in ((2, (2, 0)), (6, (2, 1)), (None, (0, 1)), (None, (0, 0))):
        healing, target, passes, fits = attempt(at)
        assert (len(passes), len(fits)) == done
    assert healing == wanted
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), plain.parameters(), strict=True))
    (tmp_path / "repair" / "block-0.safetensors").write_bytes(b"half of a fi")
    assert (attempt(None)[0], len(attempt(None)[3])) == (wanted, 0)
    other = inherit(model, [0, 1, 2, 5])  # another question
    assert heal(other, model, [0, 1, 2, 5], TOKENS_BT, kept=tmp_path / "repair").places == [2]


def test_no_head_is_called_on_what_is_fitted():
    model, rows = copy.deepcopy(reference("llama")), []
    target = inherit(model, [0, 1, 4, 5])
    for each in (model, target):
        each.lm_head.register_forward_hook(lambda _module, args, _output: rows.append(args[0].shape[0]))
    heal(target, model, [0, 1, 4, 5], TOKENS_BT)
    assert rows == [2, 2]  # the sequences that are held out, before and after


def test_the_losses_of_a_repair_do_not_ask_for_a_begin_of_several_tokens():
    model = reference("gpt2")
    target = inherit(model, [0, 1, 4, 5])
    before = Stack(target, TOKENS_BT[-2:]).whole_token_losses[:, 2:].mean().item()
    healing = heal(target, model, [0, 1, 4, 5], TOKENS_BT, unasked=2)
    after = Stack(target, TOKENS_BT[-2:]).whole_token_losses[:, 2:].mean().item()
    assert (healing.loss_before, healing.loss_after) == pytest.approx((before, after), abs=1e-6)


# Among them biases (gpt2), parallel attention and MLP (gpt_neox, phi, falcon, cohere), a scaled residual (granite),
# norms before the sum (gemma2, olmo2, glm4) and experts (mixtral, gpt_oss, qwen3_next).
@pytest.mark.parametrize("family", [*FAMILIES, "mamba", "qwen3_next", "lfm2"])
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


def test_a_later_gap_is_fitted_to_what_the_repair_before_it_gives():
    """The second of two repairs is the ridge formula on the output of the blocks that are repaired already."""
    model, blocks = reference("llama"), [0, 2, 5]
    target = inherit(model, blocks)
    heal(target, model, blocks, TOKENS_BT[:4])
    unfitted = copy.deepcopy(target)
    matrix = anatomy(unfitted).blocks[1].mlp.down_proj
    matrix.weight.data.copy_(anatomy(model).blocks[2].mlp.down_proj.weight)
    stack, parent = Stack(unfitted, TOKENS_BT[:4]), Stack(model, TOKENS_BT[:4])
    seen: list[torch.Tensor] = []
    matrix.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    missing = (parent.run(parent.hidden0, range(5)) - stack.run(stack.hidden0, [0, 1])).flatten(0, 1).double()
    inner = seen[-1].flatten(0, 1).double()
    weight = RIDGE * inner.square().sum(0).mean()
    change = torch.linalg.solve(inner.T @ inner + weight * torch.eye(inner.shape[1]), inner.T @ missing)
    healed = anatomy(target).blocks[1].mlp.down_proj.weight.double()
    torch.testing.assert_close(healed, matrix.weight.double() + change.T, atol=1e-5, rtol=1e-4)


def test_nothing_is_changed_where_nothing_is_missing():
    model = reference("llama")
    target = inherit(model, range(6))
    healing = heal(target, model, range(6), TOKENS_BT)
    assert healing.places == [] and healing.loss_before == healing.loss_after
    assert healing.flops == 2 * Stack(model, TOKENS_BT[-2:]).flops, "it is measured before and after"
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "qwen3_next"])
def test_each_expert_s_refit_is_the_ridge_formula_for_what_those_before_it_leave(family):
    """The router's weight is part of what enters."""
    model, blocks = reference(family), [0, 1, 4, 5]
    target = inherit(model, blocks)
    experts = anatomy(target).blocks[1].mlp.experts
    stack, parent = Stack(target, TOKENS_BT[:4]), Stack(model, TOKENS_BT[:4])
    below = stack.run(stack.hidden0, [0])
    missing = (parent.run(parent.hidden0, range(4)) - stack.run(below, [1])).flatten(0, 1).double()
    kept = experts.down_proj.detach().clone()
    turned = family != "gpt_oss"
    own = [matrix.T if turned else matrix for matrix in kept]

    def given(expert, matrix):  # what the block gives with this matrix of one expert
        experts.down_proj.data.copy_(kept)
        experts.down_proj.data[expert] = matrix.T if turned else matrix
        return stack.run(below, [1]).flatten(0, 1).double()

    wanted = []
    for expert, first in enumerate(own[:2]):
        # The derivative of what the block gives, by finite differences of a channel at a time: an oracle of another kind.
        bumps = [
            given(expert, first + torch.eye(len(first))[:, [at]] * torch.eye(first.shape[1])[0])
            for at in range(len(first))
        ]
        inner = torch.stack([bump[:, 0] - given(expert, first)[:, 0] for bump in bumps], dim=1)
        weight = RIDGE * inner.square().sum(0).mean()
        change = torch.linalg.solve(inner.T @ inner + weight * torch.eye(len(first)), inner.T @ missing)
        missing = missing - inner @ change
        wanted.append(first.double() + change)
    experts.down_proj.data.copy_(kept)
    heal(target, model, blocks, TOKENS_BT[:4])
    for healed, expected in zip(experts.down_proj.double(), wanted, strict=False):
        torch.testing.assert_close(healed.T if turned else healed, expected, atol=2e-3, rtol=1e-2)


def test_a_norm_s_scale_takes_over_what_it_can():
    """Where only the scale of the norm after the MLP is wrong, the repair finds what it should have given."""
    model = copy.deepcopy(reference("olmo2"))
    for parameter in model.model.layers[2].parameters():
        parameter.data.zero_()
    blocks = [0, 1, 3, 4, 5]
    target = inherit(model, blocks)
    target.model.layers[1].post_feedforward_layernorm.weight.data.mul_(torch.linspace(0.5, 2.0, 32))
    before = away(target, model, 1, 2, TOKENS_BT[:14])
    heal(target, model, blocks, TOKENS_BT)
    assert away(target, model, 1, 2, TOKENS_BT[:14]) < 0.05 * before


def test_what_cannot_be_healed_is_refused_and_left_as_it_is():
    model = copy.deepcopy(reference("gemma2"))
    for block in model.model.layers:
        block.post_feedforward_layernorm = torch.nn.Softmax(dim=-1)  # not followed by a plain sum of what it scales
        block.mlp.down_proj = torch.nn.Sequential(block.mlp.down_proj)
    target = copy.deepcopy(model)
    with pytest.raises(ModelError, match="Cannot heal 'gemma2'"):
        heal(target, model, [0, 1, 4, 5], TOKENS_BT[:2])
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), model.parameters(), strict=True))


def test_only_float32_is_healed():
    model = copy.deepcopy(reference("llama")).to(torch.bfloat16)
    with pytest.raises(ModelError, match="float32"):
        heal(inherit(model, [0, 1, 5]), model, [0, 1, 5], TOKENS_BT[:2])
