"""What is said of a cut to those who count layers: held against each family's rule by number, written out here by hand."""

from collections.abc import Callable
from typing import Any

import pytest
from transformers import AutoConfig, PretrainedConfig

from inheritune.decoder.anatomy import text_config
from inheritune.decoder.counted import foreseen, miscounted
from inheritune.decoder.layerlists import cut_config

DEPTH = 12
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
# Each family's list, its kind at each number, and after how many layers it comes again.
RULES: dict[str, tuple[str, Callable[[int], Any], int]] = {
    "gemma2": ("layer_types", lambda i: SLIDING if i % 2 == 0 else FULL, 2),
    "gemma3_text": ("layer_types", lambda i: FULL if i in (5, 11) else SLIDING, 6),
    "gemma3n_text": ("layer_types", lambda i: FULL if i in (4, 9) else SLIDING, 5),
    "cohere2": ("layer_types", lambda i: FULL if i in (3, 7, 11) else SLIDING, 4),
    "gpt_oss": ("layer_types", lambda i: SLIDING if i % 2 == 0 else FULL, 2),
    "olmo3": ("layer_types", lambda i: FULL if i in (3, 7, 11) else SLIDING, 4),
    "smollm3": ("no_rope_layers", lambda i: 0 if i in (3, 7, 11) else 1, 4),
    "llama4_text": ("no_rope_layers", lambda i: 0 if i in (3, 7, 11) else 1, 4),
    "qwen3_next": ("layer_types", lambda i: FULL if i in (3, 7, 11) else LINEAR, 4),
}
OWN: dict[str, dict[str, Any]] = {
    "gemma3n_text": {"activation_sparsity_pattern": [0.0] * DEPTH, "num_kv_shared_layers": 0},
}
CUTS = [
    *([block for block in range(DEPTH) if block != left] for left in range(DEPTH)),
    *(
        [b for b in range(DEPTH) if not first <= b < first + run]
        for run in (2, 4, 5, 6)
        for first in range(DEPTH - run)
    ),
    [0, 0, 3, 5],
]


def config_of(kind: str, **fields: Any) -> PretrainedConfig:
    return AutoConfig.for_model(kind, num_hidden_layers=DEPTH, **OWN.get(kind, {}), **fields)


@pytest.mark.parametrize("kind", RULES)
def test_a_cut_is_spoken_of_where_its_kinds_lie_otherwise_than_by_number(kind: str) -> None:
    name, rule, period = RULES[kind]
    source = config_of(kind)
    for blocks in CUTS:
        apart = [place for place, block in enumerate(blocks) if rule(block) != rule(place)]
        said = miscounted(source, cut_config(source, blocks))
        assert (said is not None) == bool(apart), (blocks, said)
        if said:
            layer = apart[0]
            assert f"says {rule(blocks[layer])} of layer {layer}, which is {rule(layer)}" in said
            assert f"whole runs of {period}" in said and f"the first {len(blocks)}" in said
            assert ("llama.cpp" in said) == (kind != "olmo3")
    assert f"whole runs of {period}" in str(foreseen(source)) and name in str(foreseen(source))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "granitemoehybrid", "lfm2"])
def test_families_without_a_rule_by_number_are_not_spoken_of(kind: str) -> None:
    lists = {
        "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 6},
        "lfm2": {"layer_types": ["conv", FULL] * 6},
    }
    source = config_of(kind, **lists.get(kind, {}))
    assert [miscounted(source, cut_config(source, blocks)) for blocks in CUTS] == [None] * len(CUTS)
    assert foreseen(source) is None


def test_a_cut_of_a_cut_is_spoken_of_and_one_back_on_its_numbers_is_not() -> None:
    source = config_of("gemma3_text")
    once = cut_config(source, [0, *range(2, 12)])  # full at 4 and 10
    assert miscounted(once, cut_config(once, range(5))) is not None
    assert miscounted(once, cut_config(once, range(4))) is None


def test_a_depth_that_repeats_nothing_names_no_runs() -> None:
    source = AutoConfig.for_model("gemma3_text", num_hidden_layers=6)
    said = str(miscounted(source, cut_config(source, [0, 5])))
    assert "whole runs" not in said and "keep the first 2" in said


def test_the_block_from_which_on_attention_slides_follows_its_list() -> None:
    """The list says it for transformers, the number for readers that have no list: both say the same."""
    source = config_of("qwen2", use_sliding_window=True, sliding_window=16, max_window_layers=8)
    cut = cut_config(source, [0, 3, 7, 8, 11])
    assert (cut.layer_types, cut.max_window_layers) == ([FULL] * 3 + [SLIDING] * 2, 3)
    assert miscounted(source, cut) is None
    mixed = cut_config(source, [8, 0])
    assert mixed.layer_types == [SLIDING, FULL]
    assert "a reader that counts layers" in str(miscounted(source, mixed))


def test_the_tower_of_a_larger_model_counts_as_its_own_type() -> None:
    source = AutoConfig.for_model("gemma3", text_config={"num_hidden_layers": DEPTH})
    cut = cut_config(source, range(1, DEPTH))
    assert text_config(cut).layer_types[4] == FULL
    assert "llama.cpp" in str(miscounted(source, cut))
