"""Keep weights in half the memory without changing a bit: in the dtype that they were published in, where it holds them exactly."""

from collections.abc import Iterable

import torch
from torch import nn


def narrow(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert to `dtype`, in place and on its device, each weight of `model` all of whose values `dtype` holds exactly.

    Other weights keep theirs, and so do buffers: some are computed from the config in full precision, and all are small.
    """
    for weight in model.parameters():
        if dtype.itemsize < weight.itemsize and weight.is_floating_point():
            narrowed = weight.detach().to(dtype)
            if torch.equal(narrowed.to(weight.dtype), weight.detach()):
                weight.data = narrowed


def widen(weights: Iterable[nn.Parameter]) -> None:
    """Convert weights to fp32, in place and on their device: a model in fp32 that `narrow` has converted comes back to the bit."""
    for weight in weights:
        if weight.is_floating_point() and weight.itemsize < torch.float32.itemsize:
            weight.data = weight.detach().float()
