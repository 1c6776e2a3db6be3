"""Blocks run in any order, against the same model with its module list rearranged."""

import copy

import families
import pytest
import torch
from torch import nn

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import CHUNK_TOKENS, Stack, run_until

TOKENS_BT = torch.randint(3, 96, (3, 40), generator=torch.Generator().manual_seed(0))
CHOSEN = ["gpt2", "llama", "gemma3_text", "bloom", "opt", "falcon", "phi", "qwen3_next", "mamba", "gpt_oss", "cohere"]


@pytest.mark.parametrize("family", CHOSEN)
def test_all_blocks_give_the_models_own_logits(family: str) -> None:
    model = families.reference(family)
    stack = Stack(model, TOKENS_BT)
    with torch.no_grad():
        expected = model(TOKENS_BT, use_cache=False).logits
    assert torch.equal(stack.logits(stack.run(stack.hidden0, range(stack.depth))), expected)


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt", "granite"])
def test_some_blocks_give_what_a_model_of_those_blocks_gives(family: str) -> None:
    model, blocks = families.reference(family), [0, 2, 2, 5]
    stack = Stack(model, TOKENS_BT)
    other = copy.deepcopy(model)
    own = anatomy(other)
    holder, name = own.path.rpartition(".")[::2]
    setattr(other.get_submodule(holder), name, nn.ModuleList([own.blocks[i] for i in blocks]))
    other.config.num_hidden_layers = len(blocks)
    with torch.no_grad():
        logits = other(TOKENS_BT, use_cache=False).logits
    losses = nn.functional.cross_entropy(logits[:, :-1].mT, TOKENS_BT[:, 1:], reduction="none").mean(1)
    hidden = stack.run(stack.hidden0, blocks)
    torch.testing.assert_close(stack.logits(hidden), logits)
    torch.testing.assert_close(stack.losses(hidden).float(), losses)
    assert stack.loss(hidden) == pytest.approx(losses.mean().item(), abs=1e-5)


@pytest.mark.parametrize("family", CHOSEN)
def test_losses_at_some_places_are_those_of_the_whole_logits(family: str) -> None:
    stack = Stack(families.reference(family), TOKENS_BT)
    hidden = stack.run(stack.hidden0, [0, 1])
    expected_BT = nn.functional.cross_entropy(stack.logits(hidden)[:, :-1].mT, TOKENS_BT[:, 1:], reduction="none")
    places_BN, before = torch.tensor([[0, 7, 38], [3, 2, 1], [38, 37, 0]]), stack.head_passes
    torch.testing.assert_close(stack.losses_at(hidden, places_BN).float(), expected_BT.gather(1, places_BN))
    assert stack.head_passes - before == pytest.approx(3 / 39)


def test_no_loss_asks_for_a_begin_of_several_tokens() -> None:
    """Oracle: losses of the whole logits, without those of the second and the third token."""
    model = families.reference("gpt2")
    whole, stack = Stack(model, TOKENS_BT), Stack(model, TOKENS_BT, unasked=2)
    assert torch.equal(stack.whole_token_losses, whole.whole_token_losses[:, 2:])
    hidden = stack.run(stack.hidden0, [0, 1, 4])
    losses_BT = nn.functional.cross_entropy(stack.logits(hidden)[:, :-1].mT, TOKENS_BT[:, 1:], reduction="none")
    torch.testing.assert_close(stack.losses(hidden).float(), losses_BT[:, 2:].mean(1))
    places_BN = torch.tensor([[0, 7, 36], [3, 2, 1], [36, 35, 0]])
    torch.testing.assert_close(stack.losses_at(hidden, places_BN).float(), losses_BT[:, 2:].gather(1, places_BN))


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = families.reference("qwen2")
    whole = Stack(model, TOKENS_BT)
    monkeypatch.setattr("inheritune.decoder.stack.CHUNK_TOKENS", 40)
    parted = Stack(model, TOKENS_BT)
    assert TOKENS_BT.numel() < CHUNK_TOKENS and len(parted.tokens) == 3
    for stack in (whole, parted):
        stack.result = stack.losses(stack.run(stack.hidden0, [0, 3]))  # type: ignore[attr-defined]
    torch.testing.assert_close(whole.result, parted.result)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", CHOSEN)
def test_a_pass_ends_where_it_is_told_to(family: str) -> None:
    model, called = families.reference(family), list[int]()
    blocks, head = anatomy(model).blocks, anatomy(model).head
    before = model(TOKENS_BT, use_cache=False).logits
    hooks = [
        module.register_forward_hook(lambda *_, place=place: called.append(place))
        for place, module in enumerate([*blocks, head])
    ]
    for place, module in enumerate([*blocks, head]):
        run_until(model, module, TOKENS_BT)
        assert called == list(range(place))
        called.clear()
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(model(TOKENS_BT, use_cache=False).logits, before, atol=0, rtol=0)


def test_passes_are_counted() -> None:
    stack = Stack(families.reference("gpt2"), TOKENS_BT)
    assert (stack.block_passes, stack.head_passes) == (6, 1)
    stack.losses(stack.run(stack.hidden0, [1, 4]))
    assert (stack.block_passes, stack.head_passes) == (8, 2)


def test_modes_and_forwards_are_put_back_also_after_an_error() -> None:
    model = copy.deepcopy(families.reference("llama")).train()
    model.model.layers[1].eval()
    stack = Stack(model, TOKENS_BT)
    with pytest.raises(IndexError):
        stack.run(stack.hidden0, [99])
    with pytest.raises(RuntimeError):
        stack.logits(stack.hidden0[..., :5])
    assert [block.training for block in model.model.layers] == [True, False, True, True, True, True]
    assert not any("forward" in vars(block) for block in model.model.layers)
    assert not torch.is_inference(stack.hidden0) and torch.is_grad_enabled()
