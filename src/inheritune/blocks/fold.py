"""What a block computes from its own index is folded into its weights, so that it may stand elsewhere.

GPT-2 may divide its attention scores by (index + 1). A block that moves keeps its function if its queries are
multiplied by (new index + 1) / (old index + 1); in floating point that is exact to one rounding.
"""

from collections.abc import Sequence

import torch
from transformers import PretrainedConfig, PreTrainedModel

from inheritune.blocks.anatomy import anatomy

FIELD = "scale_attn_by_inverse_layer_idx"


def moves(config: PretrainedConfig, before: Sequence[int]) -> bool:
    """Whether a block that computes with its own index stands elsewhere than at index `before[i]`."""
    return bool(getattr(config, FIELD, False)) and list(before) != list(range(len(before)))


def refold(target: PreTrainedModel, before: Sequence[int]) -> frozenset[str]:
    """Fold the move of the block at place i from index `before[i]` into its queries, in place.

    Gives the names of what may now differ between a block and the one that it repeats.
    """
    if not getattr(target.config, FIELD, False):
        return frozenset()
    for place, (block, index) in enumerate(zip(anatomy(target).blocks, before, strict=True)):
        if place != index:
            _scale_queries(block.get_submodule("attn.c_attn"), (place + 1) / (index + 1))
    return frozenset({"attn.scaling"})


@torch.no_grad()
def _scale_queries(projection: torch.nn.Module, factor: float) -> None:
    weight, bias = projection.get_parameter("weight"), projection.get_parameter("bias")
    width = weight.shape[0]
    weight[:, :width] *= factor
    bias[:width] *= factor
