"""Weights in half the memory to the same bits: in the dtype that they were published in, where it holds them exactly."""

from collections.abc import Iterable

import torch
from torch import nn


def narrow(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep in `dtype` each weight of `model` all of whose values it holds, in place, where the weight is.

    Others stay, and so do buffers: some are computed from the config in full precision, and all are small.
    """
    for weight in model.parameters():
        if dtype.itemsize < weight.itemsize and weight.is_floating_point():
            narrowed = weight.detach().to(dtype)
            if torch.equal(narrowed.to(weight.dtype), weight.detach()):
                weight.data = narrowed


def widen(weights: Iterable[nn.Parameter]) -> None:
    """Turn weights to fp32 in place, where they are: what `narrow` took of a model in fp32 comes back to the bit."""
    for weight in weights:
        if weight.is_floating_point() and weight.itemsize < torch.float32.itemsize:
            weight.data = weight.detach().float()
