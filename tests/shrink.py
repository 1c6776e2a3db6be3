"""Any model type's own config made tiny, by the usual names of its sizes."""

import re
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from inheritune.decoder.names import DEPTH_FIELDS

DEPTH = 6
SIZES = {
    r"num_hidden_layers|n_layers?|num_layers|depth": DEPTH,
    r"(unpadded_)?vocab_size.*": 96,
    r"hidden_size|n_embd|d_model|word_embed_proj_dim|dim|embedding_size|lru_width|attention_hidden_size|embed_dim|out_hidden_size": 32,
    r"\w*intermediate_size\w*|ffn_dim|n_inner|d_ff|ffn_hidden_size|decoder_ffn_dim|block_ff_dim": 64,
    r"moe_\w*intermediate_size|expert_ffn_hidden_size|expert_intermediate_size": 32,
    r"num_attention_heads|n_heads?|num_heads|decoder_attention_heads|linear_num_value_heads": 4,
    r"num_(global_)?key_value_heads|num_attention_groups|num_kv_heads|linear_num_key_heads": 2,
    r"\w*head_dim|kv_channels|mamba_d_head|attention_key_size|rotary_dim|hidden_size_per_layer_input": 8,
    r"q_lora_rank|kv_lora_rank|laurel_rank": 16,
    r"max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions": 128,
    r"num_(local_|routed_)?experts|n_routed_experts|moe_num_(local_)?experts": 4,
    r"num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts|router_top_k": 2,
    r"n_group|num_expert_group|topk_group|(mamba_)?n_groups": 1,
    r"state_size|ssm_state_size|mamba_d_state|mamba_(n|num)_heads|n_mamba_heads|\w*chunk_size": 8,
    r"mamba_dt_rank|time_step_rank": 4,
    r"sliding_window|attention_window_size|attention_chunk_size|window_size": 16,
    r"image_size": 28,
    r"patch_size": 14,
    r"pad_token_id": 0,
    r"bos_token_id": 1,
    r"eos_token_id": 2,
}


def shrink(kind: str, **own: Any) -> PretrainedConfig:
    """The config of a type with small sizes, also in the configs that it holds; `own` fields as given."""
    fields = _small(AutoConfig.for_model(kind).to_dict())
    del fields["model_type"]
    return AutoConfig.for_model(kind, **{**fields, **own})


def _small(fields: dict[str, Any]) -> dict[str, Any]:
    depth = next((value for name in DEPTH_FIELDS if isinstance(value := fields.get(name), int)), None)
    return {name: _of_size(name, value, depth) for name, value in fields.items()}


def _of_size(name: str, value: Any, depth: int | None) -> Any:
    if name == "per_layer_config" and value:
        return {block: _small(own) for block, own in value.items() if int(block) < DEPTH}
    if isinstance(value, dict) and name.endswith("_config"):
        return _small(value)
    if isinstance(value, list | tuple) and len(value) == depth:
        return list(value)[:DEPTH]
    if name.endswith("token_id") or (isinstance(value, int) and not isinstance(value, bool)):
        found = [size for pattern, size in SIZES.items() if re.fullmatch(pattern, name)]
        return found[-1] if found else value
    return value
