"""Families whose every tensor a config makes certain, as data: what a cut without torch may take for granted.

A line of `block` or `around` is a tensor's name, its shape and, perhaps, its bias: `+` always, `+flag` where the config
says so. `.weight` is left out, `=` begins a whole name, `{E}` counts the experts. Shapes are sums in these letters:
D width, I inner width, M an expert's, V words, P positions, E experts, H heads, S a head's width, Q = HS, C = the keys' S.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_SIZES = {
    **{"L": "num_hidden_layers", "D": "hidden_size", "I": "intermediate_size", "V": "vocab_size"},
    **{"H": "num_attention_heads", "K": "num_key_value_heads", "P": "max_position_embeddings"},
    **{"E": "num_local_experts|num_experts", "M": "moe_intermediate_size"},
}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """One family; `sizes` where its keys differ (`a|b`: either), `unsaid` and `on` what its class fills in.

    `needs` are values without which its blocks would be others, `lists` what its config must say by layer, `known`
    keys that sound as if they did, and `head` whether a head's width is `own`, `told`, `null` allowed, or the `width`'s.
    """

    architecture: str
    block: str
    around: str = "model.embed_tokens V,D\nmodel.norm D"
    path: str = "model.layers"
    last: str = "lm_head V,D"
    sizes: Mapping[str, str] = field(default_factory=dict)
    unsaid: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    on: frozenset[str] = frozenset()
    lists: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    head: str = "told"

    def keys(self, letter: str) -> list[str]:
        """The config's keys for a size."""
        return (_SIZES | dict(self.sizes))[letter].split("|")

    def depth(self, config: Mapping[str, Any]) -> int:
        """How many blocks the config says."""
        return _Sizes(self, config)["L"]

    def flag(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether a flag is set; raises ValueError where it is no flag."""
        value = config.get(name, name in self.on)
        if type(value) is not bool:
            raise ValueError(name)
        return value

    def tensors(self, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        """Every tensor of the model; raises KeyError, TypeError or ValueError where the config does not say it."""
        size = _Sizes(self, config)
        around = f"{self.around}\n{'' if self.flag('tie_word_embeddings', config) else self.last}"
        yield from self._lines(around, "", size, config)
        for place in range(size["L"]):
            yield from self._lines(self.block, f"{self.path}.{place}.", size, config)

    def _lines(self, text: str, before: str, size: "_Sizes", config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
        for line in filter(None, map(str.strip, text.split("\n"))):
            name, dims, *bias = line.split()
            shape = tuple(map(size.sum, dims.split(",")))
            end = "" if name.startswith("=") else ".weight"
            for expert in range(size["E"] if "{E}" in name else 1):
                own = before + name.removeprefix("=").replace("{E}", str(expert))
                yield own + end, shape
                if bias == ["+"] or (bias and self.flag(bias[0][1:], config)):
                    yield f"{own}.bias", shape[:1]

    def agrees(self, config: Mapping[str, Any]) -> bool:
        """Whether the config has the values that this family's blocks are known with; sizes must be said."""
        size = _Sizes(self, config)
        sizes = {key: size.sum(value) for key, value in self.needs.items() if isinstance(value, str)}
        others = {key: config.get(key, value) for key, value in self.needs.items() if key not in sizes}
        said = all(config.get(key) == value for key, value in sizes.items())
        return said and all(
            type(value) is type(self.needs[key]) and value == self.needs[key] for key, value in others.items()
        )


class _Sizes(dict[str, int]):
    """The sizes that a config says, by letter, each a whole number from 1 on."""

    def __init__(self, family: Family, config: Mapping[str, Any]):
        self.family, self.config = family, config

    def __missing__(self, letter: str) -> int:
        self[letter] = self._derived(letter) if letter in "SQC" else self._said(letter)
        return self[letter]

    def _said(self, letter: str) -> int:
        values = {self.config[key] for key in self.family.keys(letter) if key in self.config}
        if letter in self.family.unsaid and not values - {None}:
            return self.sum(self.family.unsaid[letter])
        (value,) = values
        if type(value) is not int or value < 1:
            raise ValueError(letter)
        return value

    def _derived(self, letter: str) -> int:
        if letter == "S":
            return self._head()
        if self["H"] % self["K" if letter == "C" else "H"]:
            raise ValueError(letter)
        return self["H" if letter == "Q" else "K"] * self["S"]

    def _head(self) -> int:
        head, told = self.family.head, self.config.get("head_dim")
        if "head_dim" in self.config and not (told is None and head == "null"):
            if type(told) is not int or told < 1 or head == "width":
                raise ValueError("head_dim")
            return told
        if head == "own" or self["D"] % self["H"]:
            raise ValueError("head_dim")
        return self["D"] // self["H"]

    def sum(self, text: str) -> int:
        """The value of a sum like Q+2C or P+2."""
        terms = text.split("+")
        return sum(int(term) if term.isdigit() else int(term[:-1] or 1) * self[term[-1]] for term in terms)


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
_KINDS = ("layer_types",)


def _join(*texts: str) -> str:
    return "\n".join(texts)


_LLAMA = _join(_attention(_FREE, _FREE), _mlp("+mlp_bias"), _TWO)
_GEMMA = _join(_attention(_FREE, _FREE), _mlp())

FAMILIES = {
    "llama": Family("LlamaForCausalLM", _LLAMA, head="null"),
    "granite": Family("GraniteForCausalLM", _LLAMA),
    "smollm3": Family(
        "SmolLM3ForCausalLM", _LLAMA, on=_TIED, lists=("no_rope_layers",), known=("no_rope_layer_interval",)
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
    "gemma2": Family("Gemma2ForCausalLM", _join(_GEMMA, _FOUR), on=_TIED, lists=_KINDS, head="own"),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        _join(_GEMMA, _HEADS, _FOUR),
        on=_TIED,
        lists=_KINDS,
        known=("_sliding_window_pattern",),
        head="own",
    ),
    "olmo2": Family("Olmo2ForCausalLM", _join(_attention(_FREE, _FREE, _WIDE), _mlp(), _AFTER)),
    "olmo3": Family("Olmo3ForCausalLM", _join(_attention(_FREE, _FREE, _WIDE), _mlp(), _AFTER), lists=_KINDS),
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
        lists=_KINDS,
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
