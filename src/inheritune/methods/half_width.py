"""Half width: every block of the reference, with the first half of its heads and MLP units (paper, Table 2)."""

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from inheritune.decoder.anatomy import text_config
from inheritune.decoder.names import FUSED_QUERIES, HALVED_BY_ROWS, HALVED_BY_THIRDS
from inheritune.errors import ModelError
from inheritune.methods.method import Given, Method, Phase
from inheritune.surgery.in_memory import fresh

_FUSED = (f"{FUSED_QUERIES}.weight", f"{FUSED_QUERIES}.bias")


def _start(given: Given, before: PreTrainedModel | None) -> PreTrainedModel:
    config = halved(given.reference.config)
    target = fresh(config, given.whole, given.seed).to(given.reference.device)  # type: ignore[arg-type]
    own = target.state_dict()
    with torch.no_grad():
        for name, tensor in given.reference.state_dict().items():
            own[name].copy_(_first(tensor, own[name].shape, 3 if name.endswith(_FUSED) else 1))
    return target


def halved(config: PretrainedConfig) -> PretrainedConfig:
    """Return the config with half the heads and MLP units. GPT-2's heads fill its hidden width, so that is halved with them.

    Raises ModelError, which names it, for a family or a number of heads that cannot be halved.
    """
    half, plain = copy.deepcopy(config), text_config(config)
    kind, heads = config.model_type, plain.num_attention_heads
    groups = getattr(plain, "num_key_value_heads", None) or heads
    if kind not in (*HALVED_BY_ROWS, HALVED_BY_THIRDS):
        raise ModelError(f"half-width is not known for {kind!r}: its projections may not be cut by heads")
    if heads % 2 or groups % 2:
        raise ModelError(f"half-width cannot halve {kind!r} with {heads} heads ({groups} for keys): both must be even")
    changes: dict[str, Any] = {"num_attention_heads": heads // 2}
    if kind == HALVED_BY_THIRDS:
        changes |= {"hidden_size": plain.hidden_size // 2, "n_inner": plain.n_inner and plain.n_inner // 2}
    else:
        width = getattr(plain, "head_dim", None) or plain.hidden_size // heads
        changes |= {"num_key_value_heads": groups // 2, "head_dim": width}
        changes |= {"intermediate_size": plain.intermediate_size // 2}
    for name, value in changes.items():
        setattr(text_config(half), name, value)
    return half


def _first(tensor: Tensor, shape: torch.Size, fused: int) -> Tensor:
    """The leading `shape` of a tensor. Where queries, keys and values share the last axis, each of its `fused` equal parts is cut."""
    for axis, size in enumerate(shape):
        if axis == len(shape) - 1 and fused > 1:
            parts = [part.narrow(axis, 0, size // fused) for part in tensor.chunk(fused, axis)]
            tensor = torch.cat(parts, axis)
        else:
            tensor = tensor.narrow(axis, 0, size)
    return tensor


METHODS = {"half-width": Method("the first half of every block's heads and MLP units, all blocks", (Phase(_start),))}
