"""Muon, with one batched Newton-Schulz for all matrices of a shape, of which equal blocks have many.

R rows, C columns, N matrices of a shape. A fused projection that stores queries, keys and values side by side counts as three
matrices. The update is scaled to AdamW's root mean square, 0.2. Where parameters are sharded, each process gathers the whole
momentum, orthogonalises all of it, and applies its own part.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inheritune.runtime import sharded

STEPS = 5
_COEFFICIENTS = (3.4445, -4.775, 2.0315)  # of Keller Jordan's quintic, as in torch.optim.Muon
_MOMENTUM = 0.95
_RMS = 0.2
_AT_ONCE = 1 << 24  # numbers orthogonalised together


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum; `pieces` is the number of slices of a parameter that count as matrices of their own."""

    def __init__(self, parameters: Iterable[tuple[nn.Parameter, int]], weight_decay: float):
        held = list(parameters)
        self.pieces: dict[Tensor, int] = dict(held)
        super().__init__([parameter for parameter, _ in held], {"lr": 0.0, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Apply the gradients."""
        for group in self.param_groups:
            for together in self._by_shape(group["params"]):
                self._update(together, group["lr"], group["weight_decay"])

    def _by_shape(self, parameters: Iterable[nn.Parameter]) -> Iterator[list[Tensor]]:
        """Group parameters of one shape and number of pieces, as many as are orthogonalised at once."""
        alike: dict[Any, list[Tensor]] = {}
        for parameter in parameters:
            if parameter.grad is not None:
                alike.setdefault((parameter.shape, self.pieces[parameter]), []).append(parameter)
        for held in alike.values():
            count = max(1, _AT_ONCE // held[0].numel())
            yield from (held[first : first + count] for first in range(0, len(held), count))

    def _update(self, together: list[Tensor], rate: float, weight_decay: float) -> None:
        momenta = [self._momentum(parameter) for parameter in together]
        gradients = [parameter.grad for parameter in together if parameter.grad is not None]
        torch._foreach_lerp_(momenta, gradients, 1 - _MOMENTUM)
        pulls = [sharded.whole(pull) for pull in torch._foreach_lerp(gradients, momenta, _MOMENTUM)]
        rows, columns = together[0].shape
        pieces = self.pieces[together[0]]
        stacked = torch.stack(pulls).view(len(together), rows, pieces, columns // pieces).transpose(1, 2)
        steps = orthogonal(stacked.flatten(0, 1)) * (_RMS * max(rows, columns // pieces) ** 0.5)
        steps = steps.view(len(together), pieces, rows, columns // pieces).transpose(1, 2).flatten(2)
        torch._foreach_mul_(together, 1 - rate * weight_decay)
        own = [sharded.part(step, parameter) for step, parameter in zip(steps.unbind(), together, strict=True)]
        torch._foreach_add_(together, own, alpha=-rate)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def matrices_in(module: nn.Module, name: str) -> int:
    """How many matrices the parameter `name` counts as: GPT-2's queries, keys and values side by side, (in, 3 * out), are three."""
    owner, (rows, columns) = module.get_submodule(name.rpartition(".")[0]), module.get_parameter(name).shape
    return 3 if isinstance(owner, Conv1D) and columns == 3 * rows and "attn" in name else 1


def orthogonal(matrices_NRC: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1, by five steps of Newton-Schulz."""
    wide = matrices_NRC if matrices_NRC.shape[1] <= matrices_NRC.shape[2] else matrices_NRC.mT
    x = wide.bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    first, second, third = _COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.mT
        x = first * x + torch.baddbmm(gram, gram, gram, beta=second, alpha=third) @ x
    return (x if wide is matrices_NRC else x.mT).to(matrices_NRC.dtype)
