"""A teacher in half the memory: matrices that autocast would round to bf16 for each product are kept in bf16."""

import copy
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.anatomy import is_tied
from inheritune.decoder.costs import parameter_count
from inheritune.runtime.narrow import widen


def in_halves(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` with its matrices in bf16, which under bf16 autocast gives the same bits as `model`.

    Everything but linear layers (embeddings, norms, ...) is in fp32, even where `model` keeps it narrower: autocast does not round it.
    """
    halved: dict[int, object] = {}  # deepcopy's memo: it takes these, so that no matrix is copied in fp32
    for whole in _halved(model):
        halved[id(whole)] = nn.Parameter(whole.detach().to(torch.bfloat16), whole.requires_grad)
    made = copy.deepcopy(model, halved)
    in_bf16 = set(_halved(made))
    widen(weight for weight in made.parameters() if weight not in in_bf16)
    return made


def halved_bytes(model: PreTrainedModel) -> int:
    """Bytes of the weights of `in_halves(model)`; `model` counts as fp32, and may be on the meta device."""
    return 4 * parameter_count(model) - 2 * sum(whole.numel() for whole in _halved(model))


def _halved(model: PreTrainedModel) -> Iterator[nn.Parameter]:
    """The weights and biases of linear layers, except a head that is tied to the embeddings."""
    kept = model.get_output_embeddings() if is_tied(model) else None
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not kept:
            yield from module.parameters()
