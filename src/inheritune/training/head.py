"""A model's output head, computed apart from the model, so that the logits of a whole batch are never in memory at once.

N rows (sequences times positions), D hidden size, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy, is_tied
from inheritune.decoder.outputs import answering
from inheritune.decoder.stack import evaluating
from inheritune.training.kernels import add_product, chunk_logits


class OutputHead:
    """The product that gives a model's logits; `apart` says that they are this product and nothing else.

    Where a family does more (a bias, a softcap, a scale, experts), `apart` is False, and the `states` are the logits themselves.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype):
        self.model, self.dtype, self.module = model, dtype, anatomy(model).head
        self.apart = _is_last_product(model, self.module, dtype)

    @property
    def alone(self) -> list[Tensor]:
        """Weights whose gradient is complete before the blocks' backward pass begins: the head's, if `apart` and not tied."""
        return [self.module.get_parameter("weight")] if self.apart and not is_tied(self.model) else []

    def states(self, ids_BT: Tensor) -> Tensor:
        """The head's input, (N, D), or the logits, (N, V), where the head is not `apart`."""
        if not self.apart:
            return self.model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1)
        with answering(self.module, lambda states: states):
            return self.model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1).to(self.dtype)

    def weight(self) -> Tensor:
        """The head's matrix (V, D) in the product's dtype; a sharded model's is whole only between a forward and its backward pass."""
        return self.module.get_parameter("weight").detach().to(self.dtype)

    def chunks(self, states: Tensor) -> Iterator[slice]:
        """Split the rows of `states` into chunks of a power of two, best for matrix products; without rows, one empty chunk."""
        weight = self.module.get_parameter("weight")
        rows = 1 << max(1, chunk_logits(weight.device) // weight.shape[0]).bit_length() - 1
        return (slice(first, first + rows) for first in range(0, max(1, len(states)), rows))

    def logits(self, states: Tensor, weight_VD: Tensor) -> Tensor:
        """Return the logits (N, V) of some rows of `states`; the caller may overwrite them."""
        return states @ weight_VD.T if self.apart else states.clone()

    def backward(self, states: Tensor, gradient_NV: Tensor, weight_VD: Tensor) -> Tensor:
        """Return the gradient of `states`, given that of the logits; the head's own gradient is added to its `.grad`."""
        if not self.apart:
            return gradient_NV
        weight = self.module.get_parameter("weight")
        if weight.requires_grad:
            add_product(weight, gradient_NV, states)
        return gradient_NV @ weight_VD


def without_head(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Within the context, a model returns the input of its head in place of logits."""
    return answering(anatomy(model).head, lambda states: states)


def _is_last_product(model: PreTrainedModel, head: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the head is one matrix without bias, and the model returns the head's output unchanged, however large."""
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    ids_BT = torch.arange(4, device=head.weight.device)[None] % len(head.weight)
    planted = torch.linspace(-1e4, 1e4, 4 * len(head.weight), device=head.weight.device).view(1, 4, -1)
    halves = torch.autocast(head.weight.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    with evaluating(model), halves, answering(head, lambda _states: planted):
        return torch.equal(model(input_ids=ids_BT, use_cache=False).logits, planted)
