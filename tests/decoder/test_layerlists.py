"""Config fields by layer after a cut: what each place says, against the block that stands there."""

from collections.abc import Sequence
from typing import Any

import pytest
from transformers import LlamaConfig, PretrainedConfig

from inheritune.decoder.layerlists import cut_config
from inheritune.errors import ModelError

DEPTH = 6
GAPS = [0, 2, 3, 5]


def cut(blocks: Sequence[int] = GAPS, **fields: Any) -> PretrainedConfig:
    """The config of these blocks, of a decoder of six that has these fields too."""
    config = PretrainedConfig(num_hidden_layers=DEPTH, **fields)
    before = config.to_dict()
    found = cut_config(config, blocks)
    assert config.to_dict() == before and found.num_hidden_layers == len(blocks)
    return found


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("hybrid_override_pattern", "ME*ME-", "M*M-"),  # one letter a layer
        ("some_pattern", "ab", "ab"),  # as long as something else
        ("name_of_six", "abcdef", "abcdef"),  # a word, and no pattern
        ("kinds_by_layer", ["a", "b", "c", "d", "e", "f"], ["a", "c", "d", "f"]),
        ("heads_by_layer", (1, 2, 3, 4, 5, 6), [1, 3, 4, 6]),
        ("layer_sizes", [1, 2, 3], [1, 2, 3]),
        ("attn_layer_indices", [1, 2, 5], [1, 3]),  # block numbers: 2 stands at place 1, and 5 at place 3
        ("moe_layers", [0, 1, 4], [0]),
        ("block_types", ["r", "r", "a"], ["r", "a", "r", "a"]),  # repeated up to the depth
        ("mrope_section", [1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),  # as long as the depth by chance
    ],
)
def test_lists_follow_their_blocks(name: str, value: Any, wanted: Any) -> None:
    found = getattr(cut(**{name: value}), name)
    assert found == wanted


@pytest.mark.parametrize(
    ("fields", "blocks", "wanted"),
    [
        ({"num_kv_shared_layers": 2}, [0, 2, 4, 5], {"num_kv_shared_layers": 2}),  # the last two share
        ({"num_kv_shared_layers": 2}, [0, 1, 2, 5], {"num_kv_shared_layers": 1}),
        ({"num_kv_shared_layers": 2}, [0, 1], {"num_kv_shared_layers": 0}),
        ({"first_k_dense_replace": 2}, [0, 2, 5], {"first_k_dense_replace": 1}),
        ({"first_k_dense_replace": 2}, [2, 5], {"first_k_dense_replace": 0}),
        (
            {"attn_layer_period": 3, "attn_layer_offset": 1},
            [0, 1, 3, 4],
            {"attn_layer_period": 2, "attn_layer_offset": 1},
        ),
        (
            {"decoder_sparse_step": 2, "mlp_only_layers": [1]},
            [1, 3, 5],
            {"decoder_sparse_step": 1, "mlp_only_layers": [0]},
        ),
        (
            {"moe_layer_interval": 2, "moe_layer_start_index": 2, "moe_layer_end_index": -1},
            [0, 1, 3, 5],
            {"moe_layer_interval": 1, "moe_layer_start_index": 2, "moe_layer_end_index": 3},
        ),
        (  # an end beyond the depth, as a config may have it
            {"moe_layer_interval": 1, "moe_layer_start_index": 1, "moe_layer_end_index": 27},
            [0, 3, 5],
            {"moe_layer_interval": 1, "moe_layer_start_index": 1, "moe_layer_end_index": 27},
        ),
    ],
)
def test_numbers_that_stand_for_a_pattern_are_searched_anew(
    fields: dict[str, Any], blocks: list[int], wanted: dict[str, Any]
) -> None:
    found = cut(blocks, **fields)
    assert {name: getattr(found, name) for name in fields} == wanted


@pytest.mark.parametrize(
    ("fields", "blocks"),
    [
        ({"num_kv_shared_layers": 2}, [0, 5, 1]),  # one that does not share after one that does
        ({"first_k_dense_replace": 2}, [2, 0]),
        ({"attn_layer_period": 3, "attn_layer_offset": 1}, [0, 1, 4, 5]),
    ],
)
def test_a_pattern_that_no_number_gives_is_refused_by_name(fields: dict[str, Any], blocks: list[int]) -> None:
    with pytest.raises(ModelError, match=" and ".join(fields)):
        cut(blocks, **fields)


def test_single_layers_that_are_set_apart_stay_so_at_their_new_places() -> None:
    apart = {2: {"intermediate_size": 48}, 4: {"intermediate_size": 80}, 5: {"intermediate_size": 96}}
    config = LlamaConfig(num_hidden_layers=DEPTH, hidden_size=32, intermediate_size=64, per_layer_config=apart)
    found = cut_config(config, GAPS)
    assert [layer.intermediate_size for layer in found.per_layer_config] == [64, 48, 64, 96]
    assert [layer.intermediate_size for layer in config.per_layer_config] == [64, 64, 48, 64, 80, 96]
