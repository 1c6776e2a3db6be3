"""A teacher in half the memory: what autocast rounds at each product is kept rounded."""

import copy

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.anatomy import is_tied


def in_halves(model: PreTrainedModel) -> PreTrainedModel:
    """A copy of `model` with its matrices in bf16, which under bf16 autocast gives the same bits as `model`.

    Embeddings, norms and whatever is no plain matrix stay as they are: autocast does not round those.
    """
    kept = model.get_output_embeddings() if is_tied(model) else None
    halved: dict[int, object] = {}  # what a copy takes in place of its own: no matrix is copied whole
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not kept:
            for whole in module.parameters():
                halved[id(whole)] = nn.Parameter(whole.detach().to(torch.bfloat16), whole.requires_grad)
    return copy.deepcopy(model, halved)
