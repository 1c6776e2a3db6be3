"""A tiny Llama as a GGUF file, written tensor by tensor by the gguf library; and headers written byte by byte."""

import json
import struct
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(path: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> None:
    """Writes model and tokenizer as llama.cpp's converter names them."""
    import gguf

    config, writer = model.config, gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    words = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    vocabulary = sorted(words["vocab"], key=words["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3] + [1] * (len(vocabulary) - 1))
    writer.add_token_merges([" ".join(pair) for pair in words["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    for name, tensor in model.state_dict().items():
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(name.split(".")[-2])
        writer.add_tensor(_renamed(name), (_interleaved(tensor, heads) if heads else tensor).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """The two halves of each head's rotary dimensions, taken in turn."""
    return weight.view(heads, 2, len(weight) // heads // 2, -1).transpose(1, 2).reshape(weight.shape).contiguous()


def _renamed(name: str) -> str:
    if not name.startswith("model.layers."):
        outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
        return outside[name.removesuffix(".weight")] + ".weight"
    _, _, block, rest = name.split(".", 3)
    return f"blk.{block}.{_NAMES[rest.removesuffix('.weight')]}.weight"


_WORD, _LIST = 8, 9


def number(form: str, value: object) -> bytes:
    return struct.pack(f"<{form}", value)


def text(value: str) -> bytes:
    return number("Q", len(value)) + value.encode()


def pair(name: str, kind: int, value: bytes) -> bytes:
    """A name with a value, of the kind that has this number in the format."""
    return text(name) + number("I", kind) + value


def listed(kind: int, *values: bytes) -> bytes:
    """The value of a list."""
    return number("I", kind) + number("Q", len(values)) + b"".join(values)


def tensor(name: str, *shape: int, start: int, kind: int = 0) -> bytes:
    """What a header says of a tensor; kind 0 is F32."""
    return (
        text(name)
        + number("I", len(shape))
        + b"".join(number("Q", size) for size in shape)
        + number("I", kind)
        + number("Q", start)
    )


PAIRS = [
    pair("general.architecture", _WORD, text("llama")),
    pair("llama.block_count", 4, number("I", 2)),
    pair("tokenizer.ggml.tokens", _LIST, listed(_WORD, text("a"), text("bc"))),
    pair("llama.rope.freq_base", 6, number("f", 10000.0)),
]
TENSORS = [
    tensor("token_embd.weight", 8, 2, start=0),
    tensor("blk.0.attn_norm.weight", 8, start=64),
    tensor("blk.1.attn_norm.weight", 8, start=96),
]


def gguf_bytes(
    pairs: Sequence[bytes] = PAIRS, tensors: Sequence[bytes] = TENSORS, held: int = 128, version: int = 3
) -> bytes:
    """A GGUF file of these pairs and tensors, with `held` bytes of numbers."""
    head = b"GGUF" + number("I", version) + number("Q", len(tensors)) + number("Q", len(pairs))
    head += b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(held)
