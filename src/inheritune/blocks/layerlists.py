"""The config fields that are indexed by layer follow the blocks, by rule, with exceptions as data."""

import copy
from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from inheritune.blocks.anatomy import depth_field, depth_of, text_config

NOT_BY_LAYER = frozenset({"eos_token_id", "architectures", "mrope_section", "bos_token_id", "pad_token_id"})
INDEX_LISTS = frozenset({"mlp_only_layers", "attn_layer_indices", "full_attn_idxs", "fullatt_block_indexes"})


def cut_config(config: PretrainedConfig, blocks: Sequence[int]) -> PretrainedConfig:
    """A copy of `config` for a target whose place i repeats the kind of the source's block `blocks[i]`."""
    depth = depth_of(config)
    cut = copy.deepcopy(config)
    plain = text_config(cut)
    setattr(plain, depth_field(config), len(blocks))
    for name, value in text_config(config).to_dict().items():
        if isinstance(value, list | tuple) and name not in NOT_BY_LAYER:
            setattr(plain, name, _follow(name, list(value), depth, blocks))
    return cut


def _follow(name: str, value: list[Any], depth: int, blocks: Sequence[int]) -> list[Any]:
    if name in INDEX_LISTS:
        return [place for place, block in enumerate(blocks) if block in value]
    return [value[block] for block in blocks] if len(value) == depth else value
