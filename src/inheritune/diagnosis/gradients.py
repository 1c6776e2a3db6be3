"""Norms of the gradients of W_Q and W_K by head: small ones are what keeps a collapsed head collapsed (paper, section 5).

Shapes: H heads, E width of a head, D hidden size.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.anatomy import anatomy, text_config
from inheritune.decoder.names import HEAD_BY_HEAD, QUERIES_FIRST, QUERY_KEY
from inheritune.decoder.stack import next_token_losses
from inheritune.progress import Tally, silent

Norms = tuple[list[float], list[float]]


def gradient_norms(
    model: PreTrainedModel, sequences: list[Tensor], count: Tally = silent, *, unasked: int = 0
) -> list[Norms | None]:
    """For each layer the norms of dLoss/dW_Q and dLoss/dW_K by head (keys by key-value head), or None if they are not found.

    The loss is the mean over `sequences` (1-D ids) in nats per token, of all tokens but the first and the `unasked` after it.
    Gradients the model held are put back. `count` counts sequences.
    """
    kept = [(parameter, parameter.grad, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        for parameter, _, _ in kept:
            parameter.grad = None
            parameter.requires_grad_(True)
        count(0, len(sequences))
        for done, sequence in enumerate(sequences, 1):
            tokens_BT = sequence[None].to(model.device)
            logits_BTV = model(tokens_BT, use_cache=False).logits
            (next_token_losses(logits_BTV, tokens_BT, unasked).mean() / len(sequences)).backward()
            count(done, len(sequences))
        return [_of_block(block, model) for block in anatomy(model).blocks]
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, grad, required in kept:
            parameter.grad = grad
            parameter.requires_grad_(required)


def _of_block(block: nn.Module, model: PreTrainedModel) -> Norms | None:
    config = text_config(model.config)
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    named = {name.rpartition(".")[2]: module for name, module in block.named_modules()}
    for query, key in QUERY_KEY:
        if query in named and key in named:
            return _norms(_rows(named[query]), heads), _norms(_rows(named[key]), shared)
    for name in QUERIES_FIRST:
        if name in named and (rows := _rows(named[name])) is not None:
            width = len(rows) // (heads + 2 * shared)
            return _norms(rows[: heads * width], heads), _norms(rows[heads * width : (heads + shared) * width], shared)
    for name in HEAD_BY_HEAD:
        if name in named and shared == heads and (rows := _rows(named[name])) is not None:
            parts_H3ED = rows.unflatten(0, (heads, 3, -1))
            return _norms(parts_H3ED[:, 0].flatten(0, 1), heads), _norms(parts_H3ED[:, 1].flatten(0, 1), heads)
    return None


def _rows(projection: nn.Module) -> Tensor:
    """The gradient with one row for each output."""
    grad = projection.get_parameter("weight").grad
    assert grad is not None
    return grad.T if isinstance(projection, Conv1D) else grad


def _norms(rows: Tensor, heads: int) -> list[float]:
    return torch.linalg.vector_norm(rows.unflatten(0, (heads, -1)).float(), dim=(1, 2)).tolist()
