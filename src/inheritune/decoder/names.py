"""What structure cannot tell about a model's family, as data: names of config fields, modules and types, each with the reason why."""

import re

# A config's fields.

# The depth. A config's class says which field holds it, but a raw config.json and a class of the model's own need not.
DEPTH_FIELDS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
# Sizes, under their old names too, that must be valid in a raw config.json before a model is built from it.
SIZES = (*DEPTH_FIELDS, "hidden_size", "n_embd", "vocab_size", "num_attention_heads", "n_head")
# Layers after the last block that predict further tokens. No causal class builds them, so no module shows them.
FURTHER = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")
# GPT-Neo's list of runs of blocks, and the list by layer that it makes of it: nothing says that one is made of the other.
RUNS, RUNS_BY_LAYER = "attention_types", "attention_layers"
# Lists that are not by layer: they may happen to be as long as the depth.
NOT_BY_LAYER = frozenset({"eos_token_id", "architectures", "mrope_section", "time_step_limit", RUNS})
# Lists of block numbers: they look like any list of numbers.
INDEX_LISTS = frozenset({"attn_layer_indices", "full_attn_idxs", "moe_layers", "cross_attention_layers"})
# Lists that are repeated up to the depth: they are shorter than it.
CYCLES = frozenset({"block_types"})
# Rules by index, which are plain numbers in a config: "from block n on", "the last n", "every n-th from m on", and two of experts.
FROM_BLOCK = ("first_k_dense_replace", "num_dense_layers")
LAST_BLOCKS = ("num_kv_shared_layers",)
PERIODS = (("attn_layer_period", "attn_layer_offset"), ("expert_layer_period", "expert_layer_offset"))
SPARSE_STEP = ("decoder_sparse_step", "mlp_only_layers")
SPARSE_SPAN = ("moe_layer_interval", "moe_layer_start_index", "moe_layer_end_index")
# Fields that sound as if they said something by layer: what else a new family calls its rules is not known.
BY_LAYER = re.compile(r"layer|block|pattern|interval|period|step|every|freq|scale_depth")
# The field by which a block's attention computes with its own index; what it does is in the family's code alone.
BY_INDEX = "scale_attn_by_inverse_layer_idx"
# How many experts a token is sent to: the router's class decides, the matrices do not show it.
EXPERTS_PER_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
# Head widths in latent attention (MLA), whose keys and values are made from a shorter vector: keys without positions, with them, values.
HEAD_WIDTHS = ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
# The block from which on all attention is sliding: a second word for what a list of kinds says, where there is one.
SLIDING_FROM = "max_window_layers"
# How far attention looks back: in a config, a number among others.
WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size")

# A block's modules and tensors.

# A block's attributes on its place or on the whole model from which it computes nothing: only the family's code tells.
NOT_KIND = frozenset({"training", "layer_idx", "layer_id", "layer_number", "block_idx", "num_hidden_layers"})
# Whether a block keeps its keys for later ones, and whether it reads those of another: kept but read by none, they change nothing.
KEEPS_KEYS, READS_KEYS = "store_full_length_kv", "is_kv_shared_layer"
# Which part of a block a tensor belongs to: shapes are alike in all parts. What is neither of these is the MLP.
NORM_WORDS = ("norm", "ln_", "layernorm")
ATTENTION_WORDS = ("attn", "attention")
MIXER_WORDS = (*ATTENTION_WORDS, "mixer", "mamba", "conv", "ssm", "temporal", "time_mix", "recurrent")
# The matrices by which a block's parts add to the residual: other matrices have the same shapes.
CLOSING = re.compile(
    r"(^|\.)(o_proj|c_proj|out_proj|[wW]o|dense|dense_4h_to_h|down_proj|fc2|fc_out|w2|output_linear)"
    r"(\.(weight|bias)|_bias|$)"
)
# Of these the one that closes a block's MLP (a Mamba mixer where there is none), in the order in which they are tried.
MLP_CLOSING = (
    *("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2", "feed_forward.w2", "mlp.w2", "mlp.fc_out"),
    *("mlp.shared_experts.down_proj", "shared_mlp.output_linear", "feed_forward.down_proj", "mixer.out_proj"),
)
# The norm between that matrix and the residual: a block's other norms stand before its parts.
MLP_NORMS = ("post_feedforward_layernorm", "post_mlp_layernorm")
# The closing matrices of all experts in one tensor: of two with the same shape, one opens.
EXPERTS_CLOSING = "experts.down_proj"
# A matrix that sends tokens to experts and is no linear layer: its class's name alone says that it is a product.
ROUTERS = ("Router", "Gate")
# Where queries and keys stand: apart; all queries, then all keys, then all values in one matrix; head by head in one.
QUERY_KEY = (("q_proj", "k_proj"), ("query", "key"))
QUERIES_FIRST = ("c_attn", "qkv_proj", "Wqkv")
HEAD_BY_HEAD = ("query_key_value",)
# GPT-2's matrix of queries, keys and values: the one into which the index of `BY_INDEX` can be folded.
FUSED_QUERIES = "attn.c_attn"
# Parameters that only choose among experts or positions: no gradient reaches them in any model, as if they were cut off.
CHOOSERS = ("correction_bias", "expert_bias", "indexer", "position_bias")
# What a model calls its cache, among its arguments and its outputs: other outputs are arguments too.
CACHES = ("cache", "past_key_values", "cache_params")

# Kinds of block that have the same tensors, so that a cut without torch may move them.
SAME_TENSORS = frozenset({"full_attention", "sliding_attention"})
# Activations that every family takes by these names: another may be a family's own, or none at all.
ACTIVATIONS = frozenset({"silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"})

# Model types.


# Families whose projections lie apart, so that the first half of their rows is the first half of the heads: shapes are the
# same where heads are interleaved. GPT-2's, which lie in one matrix, are cut by thirds.
HALVED_BY_ROWS = ("llama", "qwen2", "qwen3", "mistral", "olmo2", "smollm3", "gemma", "gemma2", "gemma3_text")
HALVED_BY_THIRDS = "gpt2"
# Models that read images too, whose logits for text alone are those of their text tower, bit by bit (`benchmarks/towers.py`):
# only running both shows it.
KEPT_WHOLE = frozenset({
    "aria", "cosmos3_omni", "deepseek_vl", "exaone4_5", "glmasr", "hyperclovax_vision_v2", "idefics2",
    "idefics3", "internvl", "lfm2_vl", "lfm3_vl", "lighton_ocr", "llava", "llava_next", "llava_next_video",
    "llava_onevision", "mistral3", "ovis2", "qianfan_ocr", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm",
    "video_llama_3",
})  # fmt: skip
# Text towers that have no causal class, and the type that computes the same where there is text alone: their positions in
# three axes, which the fields in `TEXT_AXES` say, are all alike then.
SAME_FOR_TEXT = {"qwen2_vl_text": "qwen2", "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3"}
TEXT_AXES = ("mrope_section", "mrope_interleaved")
# Types whose layers llama.cpp counts, by its sources of 2025 and 2026: it derives their kinds from a number, and its converter writes no
# list of them (for OLMo 3 and EXAONE 4 today's converter does).
COUNTED_BY_LLAMA_CPP = frozenset(
    {
        *("gemma2", "gemma3_text", "gemma3n_text", "cohere2", "gpt_oss", "smollm3", "llama4_text"),
        *("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"),
    }
)
