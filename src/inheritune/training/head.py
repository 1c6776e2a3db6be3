"""A model's last product, taken apart from the model, so that the logits of a whole batch never stand in memory.

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
    """The product that gives a model's logits; `apart` where they are that product and nothing else.

    Where a family does more (a bias, a softcap, a scale, experts) the states are the logits themselves.
    """

    def __init__(self, model: PreTrainedModel, dtype: torch.dtype):
        self.model, self.dtype, self.module = model, dtype, anatomy(model).head
        self.apart = _is_last_product(model, self.module, dtype)

    @property
    def alone(self) -> list[Tensor]:
        """Weights whose gradient stands before the blocks' backward pass begins: the head's, unless it is the embeddings' too."""
        return [self.module.get_parameter("weight")] if self.apart and not is_tied(self.model) else []

    def states(self, ids_BT: Tensor) -> Tensor:
        """What enters the product, (N, D); the logits, (N, V), where it is not apart."""
        if not self.apart:
            return self.model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1)
        with answering(self.module, lambda states: states):
            return self.model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1).to(self.dtype)

    def weight(self) -> Tensor:
        """The matrix (V, D) in the product's dtype; of a model that is spread it is whole between a forward pass and its backward pass."""
        return self.module.get_parameter("weight").detach().to(self.dtype)

    def chunks(self, states: Tensor) -> Iterator[slice]:
        """The rows of `states` in pieces of a power of two, which products take best; an empty one where there are none."""
        weight = self.module.get_parameter("weight")
        rows = 1 << max(1, chunk_logits(weight.device) // weight.shape[0]).bit_length() - 1
        return (slice(first, first + rows) for first in range(0, max(1, len(states)), rows))

    def logits(self, states: Tensor, weight_VD: Tensor) -> Tensor:
        """Logits (N, V) of some rows, to be overwritten by whoever asks."""
        return states @ weight_VD.T if self.apart else states.clone()

    def backward(self, states: Tensor, gradient_NV: Tensor, weight_VD: Tensor) -> Tensor:
        """The states' gradient from the logits'; the weight's is added to its own."""
        if not self.apart:
            return gradient_NV
        weight = self.module.get_parameter("weight")
        if weight.requires_grad:
            add_product(weight, gradient_NV, states)
        return gradient_NV @ weight_VD


def without_head(model: PreTrainedModel) -> AbstractContextManager[None]:
    """While the block runs, a model gives what enters its head."""
    return answering(anatomy(model).head, lambda states: states)


def _is_last_product(model: PreTrainedModel, head: nn.Module, dtype: torch.dtype) -> bool:
    """Whether the head is one matrix, and what it gives comes out of the model as it is, however large."""
    if type(head) is not nn.Linear or head.bias is not None:
        return False
    ids_BT = torch.arange(4, device=head.weight.device)[None] % len(head.weight)
    planted = torch.linspace(-1e4, 1e4, 4 * len(head.weight), device=head.weight.device).view(1, 4, -1)
    halves = torch.autocast(head.weight.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)
    with evaluating(model), halves, answering(head, lambda _states: planted):
        return torch.equal(model(input_ids=ids_BT, use_cache=False).logits, planted)
