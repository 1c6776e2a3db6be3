"""Where a decoder keeps its blocks and its head.

It is found by structure: the one `ModuleList` as long as the depth, and the output embeddings that the model itself names.
"""

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from inheritune.decoder.names import DEPTH_FIELDS, FURTHER
from inheritune.errors import DataError, ModelError

_CAUSAL = frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())


@dataclass(frozen=True)
class Anatomy:
    """A decoder's parts: `path` names `blocks` in the model."""

    path: str
    blocks: nn.ModuleList
    head: nn.Module

    @property
    def depth(self) -> int:
        return len(self.blocks)


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a config that describes the decoder (most configs: all of it)."""
    return config.get_text_config(decoder=True)


def positions_of(config: PretrainedConfig) -> int | None:
    """The context length of a config, in tokens; None where it does not say."""
    return getattr(text_config(config), "max_position_embeddings", None) or None


def depth_field(config: PretrainedConfig) -> str:
    """The name under which this config keeps its depth; raises ModelError where there is none."""
    plain = text_config(config)
    known = getattr(plain, "attribute_map", {}).get("num_hidden_layers", "num_hidden_layers")
    for name in (known, *DEPTH_FIELDS):
        if isinstance(getattr(plain, name, None), int):
            return name
    raise ModelError(f"The model type {config.model_type!r} names no depth: it is not a stack of blocks.")


def depth_of(config: PretrainedConfig) -> int:
    """The number of blocks that a config describes."""
    return int(getattr(text_config(config), depth_field(config)))


def further_layers(config: PretrainedConfig) -> int:
    """The number of multi-token-prediction layers after the last block, by the config."""
    counts = [getattr(text_config(config), name, None) for name in FURTHER]
    return max((count for count in counts if type(count) is int), default=0)


def brings_code(config: PretrainedConfig) -> bool:
    """Whether a config is of a class that came with its model, which the user has allowed to run."""
    return type(config).__module__.startswith("transformers_modules.")


def refuse_unsupported(config: PretrainedConfig, built: type[PreTrainedModel] | None = None) -> None:
    """Raise ModelError for an encoder, an encoder-decoder, quantised weights and what is no language model.

    `built` is the class of the model where there is one: a text tower's own type may be known by that alone (mllama).
    """
    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(f"The model type {kind!r} is an encoder-decoder: only decoders can be cut.")
    if getattr(config, "quantization_config", None):
        raise ModelError(f"This {kind!r} model is quantised: load it unquantised (a dtype, no quantisation) first.")
    known = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or (built and built.__name__ in _CAUSAL) or brings_code(config)
    if not known:
        if text_config(config) is not config:
            raise ModelError(
                f"The model type {kind!r} reads more than text, images perhaps, and what it is for text alone is not known"
                " here: give a language model, or save the one that it holds."
            )
        raise ModelError(f"The model type {kind!r} is not a causal language model that transformers knows.")
    if getattr(config, "is_decoder", None) is False and _is_encoder(kind):
        raise ModelError(f"The model type {kind!r} is an encoder: only decoders can be cut.")
    depth_field(config)


def _is_encoder(kind: str) -> bool:
    """Whether a type may be an encoder: one that has a causal class as well says so by `is_decoder`; plain decoders need not."""
    return kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def untied(config: PretrainedConfig) -> PretrainedConfig:
    """A copy of a config for a head that is no copy of the embeddings."""
    own = copy.deepcopy(config)
    for part in (own, text_config(own)):
        part.tie_word_embeddings = False
    return own


def is_tied(model: PreTrainedModel) -> bool:
    """Whether the head and the token embeddings are one tensor."""
    return model.get_input_embeddings().weight is _head(model).weight


def true_config(model: PreTrainedModel) -> PretrainedConfig:
    """The config of a model, corrected to say that the head is tied only where it is, and the model quantised only where it is.

    transformers leaves a head untied whose weights differ, and still calls quantised what it has unpacked from a GGUF file.
    """
    config = untied(model.config) if ties_told(model.config) and not is_tied(model) else model.config
    return plain_numbers(config) if is_unpacked(model) else config


def embedding_rows(model: PreTrainedModel) -> int:
    """How many tokens a model has embeddings for."""
    return model.get_input_embeddings().get_parameter("weight").shape[0]


def require_known(model: PreTrainedModel, largest: int) -> None:
    """Raise DataError where the largest id of a text has no embedding; a tokenizer may name more tokens than texts hold."""
    if largest >= (rows := embedding_rows(model)):
        raise DataError(f"The text has token {largest}, beyond the model's {rows} embeddings: wrong tokenizer?")


def ties_told(config: PretrainedConfig) -> bool:
    """Whether a config ties the head to the token embeddings."""
    return bool(getattr(config, "tie_word_embeddings", False))


def is_unpacked(model: PreTrainedModel) -> bool:
    """Whether a model's config still says GGUF-quantised although its weights are unpacked to floating point."""
    told = getattr(model.config, "quantization_config", None)
    packed = any(not parameter.is_floating_point() for parameter in model.parameters())
    return getattr(told, "quant_method", None) == "gguf" and not packed


def plain_numbers(config: PretrainedConfig) -> PretrainedConfig:
    """A copy of a config without its fields on quantisation."""
    own = copy.deepcopy(config)
    for name in ("quantization_config", "_pre_quantization_dtype"):
        vars(own).pop(name, None)
    return own


def anatomy(model: PreTrainedModel) -> Anatomy:
    """Find a decoder's parts; raises ModelError for what is no model, and if there is not exactly one stack of blocks."""
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"A loaded model is wanted here, and this is {model!r:.80}: load it, as with transformers' AutoModelForCausalLM.from_pretrained."
        )
    refuse_unsupported(plain_numbers(model.config) if is_unpacked(model) else model.config, type(model))
    path, blocks = _stack(model)
    return Anatomy(path, blocks, _head(model))


def _stack(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    depth = depth_of(model.config)
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and all(map(_has_parts, module))
    ]
    outer = [pair for pair in lists if not any(pair[0].startswith(f"{other[0]}.") for other in lists)]
    if len(outer) > 1:  # a tower for images may be as deep
        own = {id(module) for module in model.get_decoder().modules()}
        outer = [pair for pair in outer if id(pair[1]) in own]
    if len(outer) != 1:
        names = ", ".join(name for name, _ in outer) or "none"
        raise ModelError(f"Cannot tell the stack of {depth} blocks of {model.config.model_type!r}: found {names}.")
    return outer[0]


def _has_parts(module: nn.Module) -> bool:
    """Whether a module is made of others: no block is one matrix alone."""
    return any(True for _ in module.children())


def _head(model: PreTrainedModel) -> nn.Module:
    head: Any = model.get_output_embeddings()
    if head is None:
        raise ModelError(f"This {model.config.model_type!r} model has no language-model head.")
    return head
