"""Causal attention for training in bf16 on the CPU, where torch's own takes most of a small model's step.

Each strip of queries is multiplied only with the keys up to the strip's end, so half of the products are left out. Attention weights
are kept in bf16 for the backward pass. B sequences, H heads, T positions, d head width, G = B * H.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

_NAME, _STRIP = "inheritune_strips", 128
_PLAIN = {"position_ids", "use_cache", "is_causal", "sliding_window"}  # what a causal call without a mask may carry


@contextmanager
def in_strips(model: PreTrainedModel, precision: str) -> Iterator[None]:
    """Within this context `model` uses this attention instead of sdpa where it is faster: in bf16 on the CPU."""
    config, before = model.config, model.config._attn_implementation
    wanted = precision == "bf16" and model.device.type == "cpu" and before == "sdpa"
    try:
        config._attn_implementation = _NAME if wanted else before
        yield
    finally:
        config._attn_implementation = before


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """transformers' attention call: (B, H, T, d) in, (B, T, H, d) out; anything but plain causal attention goes to sdpa."""
    if not _is_plain(module, query, key, value, attention_mask, rest):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
    groups, scale = query.shape[1] // key.shape[1], rest.get("scaling") or query.shape[-1] ** -0.5
    halves = (x.to(torch.bfloat16) for x in (query, repeat_kv(key, groups), repeat_kv(value, groups)))
    return _Strips.apply(*halves, scale).transpose(1, 2), None  # type: ignore[no-untyped-call]


AttentionInterface.register(_NAME, attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)


def _is_plain(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rest: dict[str, Any]
) -> bool:
    causal = rest.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    shapes = query.shape[2:] == key.shape[2:] == value.shape[2:]
    known = all(value is None for name, value in rest.items() if name not in _PLAIN | {"scaling", "dropout"})
    return causal and shapes and known and mask is None and not rest.get("dropout")


class _Strips(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        shape = query.shape
        query, key, value = (x.flatten(0, 1) for x in (query * scale, key, value))
        out, weights = torch.empty_like(query), []
        # Made anew for each pass: one that `activations.py` made under FakeTensorMode holds no data, and would mask nothing later.
        future = torch.full((_STRIP, _STRIP), -torch.inf, dtype=query.dtype).triu(1)
        for first, last in _strips(shape[2]):
            scores, rows = query[:, first:last] @ key[:, :last].mT, last - first
            scores[:, :, first:] += future[:rows, :rows]
            weights.append(scores.softmax(-1))
            out[:, first:last] = weights[-1] @ value[:, :last]
        ctx.save_for_backward(query, key, value, *weights)
        ctx.shape, ctx.scale = shape, scale
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *weights = ctx.saved_tensors
        gradient, shape = gradients[0].flatten(0, 1), ctx.shape
        for_query, for_key, for_value = torch.empty_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for (first, last), held in zip(_strips(shape[2]), weights, strict=True):
            own = gradient[:, first:last]
            for_value[:, :last] += held.mT @ own
            scores = torch._softmax_backward_data(own @ value[:, :last].mT, held, -1, held.dtype)
            for_query[:, first:last] = scores @ key[:, :last]
            for_key[:, :last] += scores.mT @ query[:, first:last]
        return for_query.mul_(ctx.scale).view(shape), for_key.view(shape), for_value.view(shape), None


def _strips(length: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + _STRIP, length)) for first in range(0, length, _STRIP))
