"""The families that can be cut without torch, as data for `family.py`; any other is cut by building the model."""

from inheritune.decoder.family import Family


def _attention(bias: str = "", out: str = "", more: str = "") -> str:
    rows = [f"self_attn.{name}_proj {rows},D {bias}" for name, rows in (("q", "Q"), ("k", "C"), ("v", "C"))]
    return "\n".join([*rows, f"self_attn.o_proj D,Q {out}", more])


def _mlp(bias: str = "", before: str = "mlp", inner: str = "I") -> str:
    shapes = {"gate_proj": f"{inner},D", "up_proj": f"{inner},D", "down_proj": f"D,{inner}"}
    return "\n".join(f"{before}.{name} {shape} {bias}" for name, shape in shapes.items())


def _norms(*names: str, shape: str = "D") -> str:
    return "\n".join(f"{name} {shape}" for name in names)


_FREE = "+attention_bias"
_TWO = _norms("input_layernorm", "post_attention_layernorm")
_FOUR = "\n".join([_TWO, _norms("pre_feedforward_layernorm", "post_feedforward_layernorm")])
_AFTER = _norms("post_attention_layernorm", "post_feedforward_layernorm")
_HEADS = _norms("self_attn.q_norm", "self_attn.k_norm", shape="S")
_WIDE = "self_attn.q_norm Q\nself_attn.k_norm C"
_TWO_BIASED = "input_layernorm D +\npost_attention_layernorm D +"
_FUSED = "mlp.gate_up_proj 2I,D\nmlp.down_proj D,I"
_TIED = frozenset({"tie_word_embeddings"})


def _join(*texts: str) -> str:
    return "\n".join(texts)


_LLAMA = _join(_attention(_FREE, _FREE), _mlp("+mlp_bias"), _TWO)
_GEMMA = _join(_attention(_FREE, _FREE), _mlp())

FAMILIES = {
    "llama": Family("LlamaForCausalLM", _LLAMA, head="null"),
    "granite": Family("GraniteForCausalLM", _LLAMA),
    "smollm3": Family(
        "SmolLM3ForCausalLM", _LLAMA, on=_TIED, lists={"no_rope_layers": 4}, known=("no_rope_layer_interval",)
    ),
    "mistral": Family("MistralForCausalLM", _join(_attention(), _mlp(), _TWO), head="null"),
    "mixtral": Family(
        "MixtralForCausalLM",
        _join(
            _attention(),
            _TWO,
            "block_sparse_moe.gate E,D",
            "block_sparse_moe.experts.{E}.w1 I,D\nblock_sparse_moe.experts.{E}.w2 D,I\nblock_sparse_moe.experts.{E}.w3 I,D",
        ),
        head="null",
    ),
    "qwen2": Family("Qwen2ForCausalLM", _join(_attention("+"), _mlp(), _TWO), known=("max_window_layers",)),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        _join(_attention(_FREE, _FREE), _HEADS, _mlp(), _TWO),
        known=("max_window_layers",),
        head="own",
    ),
    "qwen3_moe": Family(
        "Qwen3MoeForCausalLM",
        _join(_attention(_FREE, _FREE), _HEADS, _TWO, "mlp.gate E,D", _mlp(before="mlp.experts.{E}", inner="M")),
        needs={"decoder_sparse_step": 1, "mlp_only_layers": []},
        known=("max_window_layers",),
    ),
    "gemma": Family("GemmaForCausalLM", _join(_GEMMA, _TWO), on=_TIED, head="own"),
    "gemma2": Family("Gemma2ForCausalLM", _join(_GEMMA, _FOUR), on=_TIED, lists={"layer_types": 2}, head="own"),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        _join(_GEMMA, _HEADS, _FOUR),
        on=_TIED,
        lists={"layer_types": 6},
        known=("_sliding_window_pattern",),
        head="own",
    ),
    "olmo2": Family("Olmo2ForCausalLM", _join(_attention(_FREE, _FREE, _WIDE), _mlp(), _AFTER)),
    "olmo3": Family(
        "Olmo3ForCausalLM", _join(_attention(_FREE, _FREE, _WIDE), _mlp(), _AFTER), lists={"layer_types": 4}
    ),
    "cohere": Family(
        "CohereForCausalLM",
        _join(_attention(_FREE, _FREE), _mlp(), "input_layernorm D"),
        needs={"use_qk_norm": False},
        on=_TIED,
    ),
    "glm4": Family(
        "Glm4ForCausalLM",
        _join(_attention(_FREE), _FUSED, _TWO, _norms("post_self_attn_layernorm", "post_mlp_layernorm")),
        on=frozenset({"attention_bias"}),
        head="own",
    ),
    "phi3": Family("Phi3ForCausalLM", _join("self_attn.qkv_proj Q+2C,D\nself_attn.o_proj D,Q", _FUSED, _TWO)),
    "phi": Family(
        "PhiForCausalLM",
        _join(
            _attention("+").replace("o_proj D,Q", "dense D,Q +"), "mlp.fc1 I,D +\nmlp.fc2 D,I +\ninput_layernorm D +"
        ),
        "model.embed_tokens V,D\nmodel.final_layernorm D +",
        last="lm_head V,D +",
        needs={"qk_layernorm": False},
    ),
    "stablelm": Family(
        "StableLmForCausalLM",
        _join(_attention("+use_qkv_bias"), _mlp(), _TWO_BIASED),
        "model.embed_tokens V,D\nmodel.norm D +",
        needs={"qk_layernorm": False, "use_parallel_residual": False},
        head="width",
    ),
    "starcoder2": Family(
        "Starcoder2ForCausalLM",
        _join(_attention("+use_bias", "+use_bias"), "mlp.c_fc I,D +use_bias\nmlp.c_proj D,I +use_bias", _TWO_BIASED),
        "model.embed_tokens V,D\nmodel.norm D +",
        on=_TIED | {"use_bias"},
        head="null",
    ),
    "gpt_oss": Family(
        "GptOssForCausalLM",
        _join(
            _attention(_FREE, _FREE, "=self_attn.sinks H"),
            _TWO,
            "mlp.router E,D +\n=mlp.experts.gate_up_proj E,D,2I\n=mlp.experts.gate_up_proj_bias E,2I",
            "=mlp.experts.down_proj E,I,D\n=mlp.experts.down_proj_bias E,D",
        ),
        on=frozenset({"attention_bias"}),
        lists={"layer_types": 2},
        head="own",
    ),
    "gpt_neox": Family(
        "GPTNeoXForCausalLM",
        _join(
            "attention.query_key_value 3Q,D +attention_bias\nattention.dense D,Q +attention_bias",
            "mlp.dense_h_to_4h I,D +\nmlp.dense_4h_to_h D,I +",
            _TWO_BIASED,
        ),
        "gpt_neox.embed_in V,D\ngpt_neox.final_layer_norm D +",
        "gpt_neox.layers",
        "embed_out V,D",
        on=frozenset({"attention_bias"}),
        head="width",
    ),
    "opt": Family(
        "OPTForCausalLM",
        _join(
            _attention("+", "+").replace("o_proj", "out_proj").replace("C,D", "Q,D"),
            "fc1 I,D +\nfc2 D,I +\nself_attn_layer_norm D +\nfinal_layer_norm D +",
        ),
        "model.decoder.embed_tokens V,D\n=model.decoder.embed_positions.weight P+2,D\nmodel.decoder.final_layer_norm D +",
        "model.decoder.layers",
        sizes={"I": "ffn_dim"},
        needs={
            **{"word_embed_proj_dim": "D", "do_layer_norm_before": True, "enable_bias": True},
            **{"layer_norm_elementwise_affine": True, "_remove_final_layer_norm": False},
        },
        on=_TIED,
        known=("layerdrop",),
        head="width",
    ),
    "gpt2": Family(
        "GPT2LMHeadModel",
        _join(
            "attn.c_attn D,3Q\n=attn.c_attn.bias 3Q\nattn.c_proj Q,D +\nmlp.c_fc D,I\n=mlp.c_fc.bias I",
            "mlp.c_proj I,D\n=mlp.c_proj.bias D\nln_1 D +\nln_2 D +",
        ),
        "transformer.wte V,D\ntransformer.wpe P,D\ntransformer.ln_f D +",
        "transformer.h",
        sizes={
            **{"L": "n_layer|num_hidden_layers", "D": "n_embd|hidden_size", "H": "n_head|num_attention_heads"},
            **{"P": "n_positions|max_position_embeddings", "I": "n_inner"},
        },
        unsaid={"I": "4D"},
        needs={"scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False},
        on=_TIED,
        head="width",
    ),
    "bloom": Family(
        "BloomForCausalLM",
        _join(
            "self_attention.query_key_value 3Q,D +\nself_attention.dense D,Q +",
            "mlp.dense_h_to_4h 4D,D +\nmlp.dense_4h_to_h D,4D +",
            _TWO_BIASED,
        ),
        "transformer.word_embeddings V,D\ntransformer.word_embeddings_layernorm D +\ntransformer.ln_f D +",
        "transformer.h",
        sizes={"L": "n_layer|num_hidden_layers", "H": "n_head|num_attention_heads"},
        on=_TIED,
        head="width",
    ),
}
