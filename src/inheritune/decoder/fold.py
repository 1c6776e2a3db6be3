"""Fold what a block computes from its own index into its weights, so that the block can move to another place.

GPT-2 may divide its attention scores by (index + 1). A block that moves keeps its function if its queries are
multiplied by (new index + 1) / (old index + 1); in floating point that is exact to one rounding.
"""

from collections.abc import Sequence

from torch import Tensor
from transformers import PretrainedConfig

from inheritune.decoder.names import BY_INDEX, FUSED_QUERIES


def factors(config: PretrainedConfig, path: str, before: Sequence[int]) -> dict[str, float]:
    """The factor for the queries in each tensor, by its name, where the block at place i used to compute with index `before[i]`.

    The queries are the first third of the tensor's last axis, in weight and bias alike.
    """
    if not getattr(config, BY_INDEX, False):
        return {}
    moved = [(place, (place + 1) / (index + 1)) for place, index in enumerate(before) if place != index]
    return {f"{path}.{place}.{FUSED_QUERIES}.{own}": factor for place, factor in moved for own in ("weight", "bias")}


def scaled(tensor: Tensor, factor: float) -> Tensor:
    """A copy of a tensor of queries, keys and values, with its queries multiplied."""
    result = tensor.clone()
    result[..., : tensor.shape[-1] // 3] *= factor
    return result


def folded(config: PretrainedConfig) -> frozenset[str]:
    """Names of what may differ between a block and the one that it repeats, because it is folded into the weights."""
    return frozenset({"attn.scaling"} if getattr(config, BY_INDEX, False) else ())
