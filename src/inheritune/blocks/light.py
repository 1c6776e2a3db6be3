"""Cuts of plain families between files without torch: what a config and the tensors' headers alone make certain.

Everything is expected: the family, its keys, each tensor's name and shape. Whatever is not as expected is left to
`surgery`, which builds the model without its weights to see what it is. So nothing is refused here that is not
refused for every model.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from inheritune.blocks.blockmap import BlockMap
from inheritune.blocks.card import Record, license_of, origin_of
from inheritune.blocks.folder import CONFIG, copy_along, pieces_of, placed, read_json, require_place
from inheritune.blocks.parts import PARTS
from inheritune.blocks.shards import Piece, fingerprint
from inheritune.blocks.streaming import inherited, write

PATH = "model.layers"
# Families whose blocks are all alike, with the class that their config names.
FAMILIES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_BY_LAYER = re.compile(r"layer|block|pattern|interval|period|step|every|freq|apart|quant|auto_map")
_KNOWN = frozenset({"num_hidden_layers", "layer_types", "max_window_layers"})
_LISTS = frozenset({"architectures", "eos_token_id", "layer_types"})
_FLOATS = frozenset({"F32", "F16", "BF16"})
Shape = tuple[int, ...]


def inherit_light(source: Path, target: Path, blocks: Sequence[int], least: int, force: bool) -> Record | None:
    """Cut a model folder of more than `least` bytes into the new folder `target`; None, and nothing done, if it cannot.

    Raises InputError for a block that does not exist, and what `folder` raises for damaged or unsafe folders.
    """
    require_place(target, [source], force)
    pieces, config = pieces_of(source), read_json(source, CONFIG)
    if sum(piece.size for piece in pieces) <= least or not _expected(config, pieces):
        return None
    depth = config["num_hidden_layers"]
    block_map = BlockMap.of(blocks).within(depth)
    print_ = fingerprint((source / CONFIG).read_bytes(), pieces)
    record = Record(
        "inherit", source.name, print_, depth, list(blocks), sorted(PARTS), "all", origin=origin_of(source, blocks)
    )
    with placed(target) as folder:
        write(list(inherited([pieces], block_map, PATH).values()), folder)
        content = json.dumps(_cut(config, blocks), indent=2, sort_keys=True)
        (folder / CONFIG).write_text(content + "\n", encoding="utf-8")
        copy_along(source, folder)
        record.save(folder, license_of(source))
    return record


def _cut(config: dict[str, Any], blocks: Sequence[int]) -> dict[str, Any]:
    cut = {**config, "num_hidden_layers": len(blocks)}
    if "layer_types" in config:
        cut["layer_types"] = [config["layer_types"][block] for block in blocks]
    return cut


def _expected(config: dict[str, Any], pieces: list[Piece]) -> bool:
    """Whether config and tensors are just what a family of alike blocks has."""
    kind = config.get("model_type")
    if kind not in FAMILIES or config.get("architectures") not in (None, [FAMILIES[kind]]):
        return False
    if not all(_plain(name, value) for name, value in config.items()) or config.get("use_sliding_window"):
        return False
    try:
        wanted = dict(_shapes(config))
    except (KeyError, TypeError, ValueError):
        return False
    types = config.get("layer_types")
    if types is not None and (len(types) != config["num_hidden_layers"] or len(set(map(str, types))) != 1):
        return False
    same = {piece.name: piece.shape for piece in pieces} == wanted
    return same and len({piece.dtype for piece in pieces} & _FLOATS) == len({piece.dtype for piece in pieces}) == 1


def _plain(name: str, value: Any) -> bool:
    """Whether a key of a config says nothing by layer."""
    if _BY_LAYER.search(name) and name not in _KNOWN:
        return value is None
    return not isinstance(value, list) or name in _LISTS


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Every tensor of the model, by name; raises KeyError or ValueError for a config that does not say it."""
    width, inner, words, depth = (
        _whole(config[name]) for name in ("hidden_size", "intermediate_size", "vocab_size", "num_hidden_layers")
    )
    for place in range(depth):
        for suffix, shape in _block(config, width, inner):
            yield f"{PATH}.{place}.{suffix}", shape
    yield "model.embed_tokens.weight", (words, width)
    yield "model.norm.weight", (width,)
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", (words, width)


def _block(config: dict[str, Any], width: int, inner: int) -> Iterator[tuple[str, Shape]]:
    kind, heads = config["model_type"], _whole(config["num_attention_heads"])
    keys = _whole(config["num_key_value_heads"])
    # Qwen3's class has a head width of its own, which a config may leave unsaid.
    size = _whole(config["head_dim"] if kind == "qwen3" else config.get("head_dim") or width // heads)
    outs = {"q_proj": heads * size, "k_proj": keys * size, "v_proj": keys * size}
    biased = kind == "qwen2" or bool(config.get("attention_bias", False))
    for name, out in outs.items():
        yield f"self_attn.{name}.weight", (out, width)
        if biased:
            yield f"self_attn.{name}.bias", (out,)
    yield "self_attn.o_proj.weight", (width, heads * size)
    if biased and kind != "qwen2":
        yield "self_attn.o_proj.bias", (width,)
    for name, shape in (("gate_proj", (inner, width)), ("up_proj", (inner, width)), ("down_proj", (width, inner))):
        yield f"mlp.{name}.weight", shape
        if config.get("mlp_bias", False):
            yield f"mlp.{name}.bias", shape[:1]
    if kind == "qwen3":
        yield "self_attn.q_norm.weight", (size,)
        yield "self_attn.k_norm.weight", (size,)
    yield "input_layernorm.weight", (width,)
    yield "post_attention_layernorm.weight", (width,)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(value)
    return value
