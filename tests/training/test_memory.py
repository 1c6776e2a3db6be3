"""The memory of a step by formula, against sizes counted by hand and tensors counted while a step runs."""

import pytest
import torch
from rounds import LENGTH, training
from tiny import untrained_model

from inheritune.decoder.anatomy import anatomy
from inheritune.models.hollow import hollow
from inheritune.runtime.device import CPU, autocast
from inheritune.training import kernels
from inheritune.training.head import OutputHead
from inheritune.training.memory import activation_bytes, rounded_bytes, step_memory


def test_what_is_held_of_weights_is_sixteen_bytes_a_parameter_and_its_share_where_it_is_spread() -> None:
    """Counted by hand: fp32 weights, gradients and two states; spread, one of five blocks and all outside them are gathered on top."""
    model = hollow(untrained_model("gpt2").config)
    count, block = (sum(p.numel() for p in part.parameters()) for part in (model, model.transformer.h[0]))
    whole, spread = (step_memory(model, training(), LENGTH, share=share) for share in (1, 4))
    assert (whole.weights, whole.gradients, whole.states) == (4 * count, 4 * count, 8 * count)
    assert (spread.weights, spread.gradients, spread.states) == (count + 4 * (count - 4 * block), count, 2 * count)
    assert spread.logits == whole.logits == 4 * LENGTH * 320 * 4
    assert whole.activations == spread.activations
    assert whole.added == spread.added == 4 * model.transformer.wte.weight.numel(), (
        "the embeddings' gradient, the largest"
    )
    assert whole.total == 16 * count + whole.activations + whole.logits + whole.added and not whole.rounded


@pytest.mark.parametrize(("precision", "bytes_each"), [("fp32", 4), ("bf16", 6)])
def test_on_a_gpu_a_piece_of_the_logits_is_eight_times_as_large_and_in_bf16_stands_in_fp32_too(
    precision: str, bytes_each: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, model = torch.device("cuda"), hollow(untrained_model("gpt2").config)
    assert kernels.chunk_logits(gpu) == 1 << 28 == 8 * kernels.chunk_logits(CPU)
    wanted = training(precision=precision, micro_batch_size=2)
    assert step_memory(model, wanted, LENGTH, on=gpu).logits == bytes_each * 2 * LENGTH * 320
    monkeypatch.setattr(kernels, "_LARGE_CHUNK", 1000)
    assert step_memory(model, wanted, LENGTH, on=gpu).logits == bytes_each * 1000


def test_a_cut_is_counted_as_the_model_that_it_becomes() -> None:
    whole, cut = untrained_model("llama"), untrained_model("llama", num_hidden_layers=2)
    assert step_memory(whole, training(), LENGTH, blocks=[0, 3]) == step_memory(cut, training(), LENGTH)


@pytest.mark.parametrize("again", [False, True])
def test_a_step_keeps_what_the_formula_says_or_more_but_not_three_times_as_much(again: bool) -> None:
    """Against the tensors that autograd keeps for the backward pass, parameters left out."""
    model, wanted = untrained_model("llama", num_hidden_layers=6), training(checkpoint_activations=again)
    if again:
        model.activation_checkpointing_enable({"use_reentrant": False})
    own = {p.data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    ids_BT = torch.arange(wanted.micro_batch_size * LENGTH).view(-1, LENGTH) % 320
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(input_ids=ids_BT, use_cache=False)
    held = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    told = activation_bytes(model, wanted, LENGTH, 6)
    if again:  # the inside of one block is made anew in the backward pass
        told -= activation_bytes(model, wanted, LENGTH, 1) - activation_bytes(model, wanted, LENGTH, 1) // 9
    assert told <= held < 3 * told


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_in_bf16_the_matrices_are_kept_once_more_until_the_backward_pass(family: str) -> None:
    """What autograd keeps and is a parameter rounded to bf16, and the head's matrix, which is rounded for all pieces together."""
    model, wanted = untrained_model(family), training(precision="bf16")
    head, own = OutputHead(model, torch.bfloat16), [p.detach().bfloat16() for p in model.parameters() if p.dim() == 2]
    weight = head.weight()  # held, so that no other tensor is given its address
    kept: dict[int, int] = {weight.data_ptr(): weight.nbytes}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        sides = (tensor, tensor.T) if tensor.dtype == torch.bfloat16 and tensor.dim() == 2 else ()
        if any(torch.equal(side, p) for side in sides for p in own):
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    ids_BT = torch.arange(2 * LENGTH).view(2, LENGTH) % 320
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast("bf16", CPU):
        states = head.states(ids_BT)
    assert states.requires_grad and sum(kept.values()) == rounded_bytes(model, wanted, anatomy(model).blocks)
