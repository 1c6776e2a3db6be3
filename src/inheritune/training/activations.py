"""Bytes that autograd saves for a micro-batch's backward pass, counted on fake tensors: no weight is read and nothing is computed."""

import copy
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.training.head import without_head
from inheritune.training.kernels import fastest


def kept_for_backward(hollow: PreTrainedModel, training: Training, length: int) -> int:
    """Return the bytes that autograd saves for a micro-batch of sequences of `length`; `hollow` is a model on the meta device.

    The head's logits do not count, since they are never all in memory at once. Under `checkpoint_activations` the inside of one block
    counts as well: it is recomputed while the other blocks' inputs are in memory.
    """
    if not training.checkpoint_activations:
        return _kept(hollow, training, length)
    plain = training.model_copy(update={"checkpoint_activations": False})
    return _kept(hollow, training, length) + _kept(hollow, plain, length) // anatomy(hollow).depth


def _kept(hollow: PreTrainedModel, training: Training, length: int) -> int:
    kept: dict[int, int] = {}
    own_copy = copy.deepcopy(hollow)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = own_copy.to_empty(device="cpu").train()  # type: ignore[arg-type]
        if training.checkpoint_activations:
            model.activation_checkpointing_enable({"use_reentrant": False})
        own = {_storage(parameter) for parameter in model.parameters()}
        ids_BT = torch.zeros(training.micro_batch_size, length, dtype=torch.long)
        half = torch.autocast("cpu", torch.bfloat16) if training.precision == "bf16" else nullcontext()
        hooks = torch.autograd.graph.saved_tensors_hooks(_counting(kept, own), lambda tensor: tensor)
        with hooks, half, without_head(model), fastest(model, training.model_copy(update={"compile": "none"})):
            model(input_ids=ids_BT, use_cache=False)
    return sum(kept.values())


def _counting(kept: dict[int, int], own: set[int]) -> Callable[[Tensor], Tensor]:
    """Return a hook that notes the size of each saved storage once; those of `own`, the weights, are in memory anyway."""
    alive: list[Tensor] = []  # a freed storage might pass its address on to another

    def note(tensor: Tensor) -> Tensor:
        if _storage(tensor) not in own:
            kept[_storage(tensor)] = tensor.untyped_storage().nbytes()
            alive.append(tensor)
        return tensor

    return note


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
