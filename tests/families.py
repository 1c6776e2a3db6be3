"""Every family that the documentation names, as a tiny model whose blocks differ in kind where the family's do."""

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from shrink import DEPTH, shrink
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, PreTrainedModel

from inheritune.models.load import load_model
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.in_memory import inherit
from inheritune.surgery.requests import CutRequest

MIXED = ["sliding_attention", "full_attention"] * 3
TOKENS = {"vocab_size": 96, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
OLD = {"n_layer": DEPTH, "n_embd": 32, "n_head": 4, "n_positions": 64}
NEW = {
    "num_hidden_layers": DEPTH,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}
GROUPED = {**NEW, "num_key_value_heads": 2, "head_dim": 8}
WINDOW = {"sliding_window": 16, "layer_types": MIXED}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["full_attention", "linear_attention", "linear_attention"] * 2,
}

FAMILIES = {
    "gpt2": OLD,
    "gpt_neox": NEW,
    "opt": {**NEW, "ffn_dim": 64, "word_embed_proj_dim": 32},
    "bloom": {"n_layer": DEPTH, "hidden_size": 32, "n_head": 4},
    "falcon": {**NEW, "new_decoder_architecture": False},
    "phi": {**NEW, "num_key_value_heads": 2},
    "phi3": {**NEW, "num_key_value_heads": 2, "sliding_window": 16},
    "llama": GROUPED,
    "mistral": {**GROUPED, "sliding_window": 16},
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2": {**NEW, "num_key_value_heads": 2, "use_sliding_window": True, **WINDOW},
    "qwen3": {**GROUPED, "tie_word_embeddings": True},
    "qwen3_moe": {**GROUPED, "num_experts": 4, **EXPERTS, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
    "gemma": GROUPED,
    "gemma2": {**GROUPED, **WINDOW},
    "gemma3_text": {**GROUPED, **WINDOW},
    "olmo2": {**NEW, "num_key_value_heads": 2},
    "olmo3": {**NEW, "num_key_value_heads": 2, **WINDOW},
    "stablelm": {**NEW, "num_key_value_heads": 2},
    "starcoder2": {**NEW, "num_key_value_heads": 2, "sliding_window": 16},
    "granite": {**NEW, "num_key_value_heads": 2, "residual_multiplier": 0.3},
    "cohere": {**NEW, "num_key_value_heads": 2},
    "smollm3": {**NEW, "num_key_value_heads": 2, "no_rope_layers": [1, 0, 1, 1, 0, 1]},
    "gpt_oss": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOW},
    "deepseek_v3": {
        **NEW,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "first_k_dense_replace": 2,
        "n_group": 1,
        "topk_group": 1,
        **EXPERTS,
        **{"q_lora_rank": 16, "kv_lora_rank": 16},
        **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    },
    "glm4": {**GROUPED, "partial_rotary_factor": 0.5},
}

# Not named in the documentation, found by structure: hybrids, state spaces and others.
OTHERS = {
    "mamba": {"num_hidden_layers": DEPTH, "hidden_size": 32, "state_size": 8},
    "qwen3_next": {**GROUPED, **LINEAR, "num_experts": 4, **EXPERTS, "shared_expert_intermediate_size": 32},
    "lfm2": {**GROUPED, "layer_types": ["full_attention", "conv"] * 3},
    "gpt_neo": {
        **{"num_layers": DEPTH, "hidden_size": 32, "num_heads": 4, "max_position_embeddings": 64},
        **{"window_size": 16, "attention_types": [[["global", "local"], 3]]},
    },
}

OTHERS |= {
    "openai-gpt": OLD,  # its blocks give a list
    "nemotron_h": {
        **{**GROUPED, "layers_block_type": ["attention", "mamba", "moe"] * 2, "n_routed_experts": 4, **EXPERTS},
        **{"mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "chunk_size": 8},
        **{"moe_shared_expert_intermediate_size": 32, "n_group": 1, "topk_group": 1},
    },
    "granitemoehybrid": {
        **{**GROUPED, "layer_types": ["attention", "mamba"] * 3, "num_local_experts": 4, "num_experts_per_tok": 2},
        **{"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8},
        "shared_intermediate_size": 64,
    },
    "mamba2": {
        **{"num_hidden_layers": DEPTH, "hidden_size": 32, "state_size": 8, "num_heads": 8, "head_dim": 8},
        **{"n_groups": 1, "chunk_size": 8},
    },
}

# Refused, wholly or in part, by the name of what cannot follow.
REFUSED = {
    "diffllama": {**NEW, "num_key_value_heads": 2},
    "minicpm3": {
        **{**NEW, "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16},
        **{"qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    },
    "jamba": {
        **{**NEW, "num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2},
        **{
            "attn_layer_period": 2,
            "attn_layer_offset": 0,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
        },
        **{"mamba_d_state": 8, "mamba_dt_rank": 4, "use_mamba_kernels": False},
    },
}

# GPT-2 whose blocks compute with their own index.
SCALED = {**OLD, "scale_attn_by_inverse_layer_idx": True}
# Models that read images too: what is for text alone comes out, of the whole or of its text tower.
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 2, 1]}}
LARGER: dict[str, dict[str, Any]] = {
    "gemma3": {"text_config": {**TOKENS, **GROUPED, **WINDOW}},
    "llava": {"text_config": {"model_type": "llama", **TOKENS, **GROUPED}},
    "mistral3": {"text_config": {"model_type": "mistral", **TOKENS, **GROUPED}},
    "qwen2_vl": {"text_config": {**TOKENS, **NEW, **MROPE, "num_key_value_heads": 2}},
    "qwen2_5_vl": {"text_config": {**TOKENS, **NEW, **MROPE, "num_key_value_heads": 2}},
    "qwen3_vl": {"text_config": {**TOKENS, **GROUPED, **MROPE}},
    "qwen3_5": {"text_config": {**TOKENS, **GROUPED, **LINEAR}},
    "internvl": {},
    "idefics3": {},
    "mllama": {"text_config": {**TOKENS, **NEW, "num_key_value_heads": 2, "cross_attention_layers": [1, 4]}},
}
FIRST, GAPS, REPEATS = [0, 1, 2], [0, 2, 5], [0, 1, 1, 4]


@functools.cache
def reference(family: str) -> PreTrainedModel:
    """The tiny model of a family, with weights large enough for its parts to matter; shared: never change it."""
    fields = {**FAMILIES, **OTHERS, **REFUSED, "scaled": SCALED}[family]
    config = AutoConfig.for_model("gpt2" if family == "scaled" else family, **{**TOKENS, **fields})
    torch.manual_seed(0)
    return _stirred(AutoModelForCausalLM.from_config(config))


@functools.cache
def larger(kind: str) -> PreTrainedModel:
    """The tiny model of a type that reads images too, whole."""
    torch.manual_seed(0)
    return _stirred(AutoModelForMultimodalLM.from_config(shrink(kind, **LARGER.get(kind, {}))))


@torch.no_grad()
def _stirred(model: PreTrainedModel) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def from_files(model: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
    """What transformers loads of a proved cut between files; bit by bit the cut in memory, or AssertionError."""
    with tempfile.TemporaryDirectory() as folder:
        source, cut = Path(folder, "source"), Path(folder, "cut")
        model.save_pretrained(source)
        inherit_folder(source, cut, CutRequest(blocks, proved=True))
        found = AutoModelForCausalLM.from_pretrained(cut).eval()
        meant = inherit(load_model(source), blocks).state_dict()
    own = found.state_dict()
    assert own.keys() == meant.keys() and all(torch.equal(own[name], meant[name]) for name in own)
    return found
