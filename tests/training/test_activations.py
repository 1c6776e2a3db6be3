"""What a micro-batch keeps, counted without memory, against what autograd keeps of a real one."""

import pytest
import torch
from test_training_costs import training
from tiny import untrained_model
from torch import Tensor

from inheritune.models.hollow import hollow
from inheritune.runtime.device import CPU, autocast
from inheritune.training.activations import kept_for_backward
from inheritune.training.head import without_head
from inheritune.training.kernels import fastest

IDS_BT = torch.arange(4 * 24).view(4, 24) % 300


def kept_by_autograd(family: str, precision: str) -> int:
    model = untrained_model(family).train()
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    with hooks, autocast(precision, CPU), without_head(model), fastest(model, training(precision=precision)):
        model(input_ids=IDS_BT, use_cache=False)
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_count_is_what_autograd_keeps(family: str, precision: str) -> None:
    model = untrained_model(family)
    shape = hollow(model.config, type(model)).float()
    wanted = training(precision=precision, micro_batch_size=4)
    assert kept_for_backward(shape, wanted, 24) == kept_by_autograd(family, precision)
    assert all(parameter.is_meta for parameter in shape.parameters()), "the shape is left as it was"


def test_computed_again_it_keeps_what_enters_each_block_and_one_inside() -> None:
    """Four blocks of width 24: their inputs, and a quarter of what all keep otherwise. Final norm and embedding keep a little more."""
    model = untrained_model("llama")
    shape = hollow(model.config, type(model)).float()
    plain, again = (
        kept_for_backward(shape, training(micro_batch_size=4, checkpoint_activations=each), 24)
        for each in (False, True)
    )
    inputs = 4 * 4 * 24 * 24 * 4
    assert inputs + plain // 4 <= again <= 2 * inputs + plain // 4 < plain
