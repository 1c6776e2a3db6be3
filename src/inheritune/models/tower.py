"""The text tower of a model that reads images or sound too, where transformers' causal class gives none of its own."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForMultimodalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from inheritune.decoder.anatomy import anatomy, text_config, ties_told
from inheritune.decoder.names import KEPT_WHOLE, SAME_FOR_TEXT, TEXT_AXES
from inheritune.decoder.parts import split_name
from inheritune.errors import ModelError
from inheritune.models.shards import Piece
from inheritune.models.stored import Mapping


def tower_config(config: PretrainedConfig) -> PretrainedConfig | None:
    """The config of the causal model that a multimodal one amounts to on text alone; None where none is known, or it is causal itself."""
    if config.model_type not in KEPT_WHOLE:
        return None
    plain = text_config(config)
    kind = SAME_FOR_TEXT.get(plain.model_type, plain.model_type)
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return None
    tower = copy.deepcopy(plain) if kind == plain.model_type else _as(kind, plain)
    tower.tie_word_embeddings = ties_told(config)
    if told := getattr(config, "quantization_config", None):
        tower.quantization_config = told
    return tower


def _as(kind: str, config: PretrainedConfig) -> PretrainedConfig:
    """The config as one of another type, with the fields that both types know."""
    held: dict[str, Any] = config.to_dict()
    held["rope_parameters"] = {name: value for name, value in held["rope_parameters"].items() if name not in TEXT_AXES}
    known = AutoConfig.for_model(kind).to_dict().keys() - {"model_type"}
    return AutoConfig.for_model(kind, **{name: value for name, value in held.items() if name in known})


def tower_pieces(pieces: Sequence[Piece], config: PretrainedConfig, tower: PreTrainedModel) -> list[Piece]:
    """The tensors of a model's text tower, under the names that they have in files of the tower alone.

    Raises ModelError where the files keep a parameter in another form than those of the tower would.
    """
    with torch.device("meta"):
        whole = AutoModelForMultimodalLM.from_config(copy.deepcopy(config))
    moved = {_path(whole, whole.get_decoder()): _path(tower, tower.get_decoder())}
    moved[_path(whole, whole.get_output_embeddings())] = _path(tower, tower.get_output_embeddings())
    mapping, own = Mapping(whole), Mapping(tower)
    path = f"{_path(whole, whole.get_decoder())}.{anatomy(tower).path.rpartition('.')[2]}"
    found = []
    for held in mapping.held(pieces, path)[0]:
        start = next((start for start in moved if held.own.startswith(f"{start}.")), None)
        if start is None:
            continue
        name = moved[start] + held.own.removeprefix(start)
        if held.around is not None and mapping.converts(held.piece.name):
            block, _ = split_name(held.own, path)
            name = f"{anatomy(tower).path}.{block}{held.around[1]}"
        if mapping.converts(held.piece.name) != own.converts(name):
            raise ModelError(
                f"{held.piece.name} in {held.piece.file.parent} is kept otherwise than {tower.config.model_type!r} keeps it."
            )
        found.append(replace(held.piece, name=name))
    return found


def _path(model: PreTrainedModel, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)
