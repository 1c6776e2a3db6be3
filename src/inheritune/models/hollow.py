"""Read a model folder without its weights: its config, its tensors' headers, and the model on the meta device."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from inheritune.decoder.anatomy import Anatomy, anatomy, brings_code, refuse_unsupported, untied
from inheritune.decoder.outputs import UNWRITTEN, set_flags
from inheritune.errors import ModelError, plain
from inheritune.models.distrust import belies_ties, require_agreement, require_numbers
from inheritune.models.folder import CONFIG, pieces_of, read_json
from inheritune.models.quiet import quiet
from inheritune.models.shards import StoredTensor
from inheritune.models.stored import Mapping, require_whole
from inheritune.models.tower import tower_config, tower_pieces


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, checked: its config, its tensors as the parameters that they become, and the model without weights."""

    folder: Path
    config: PretrainedConfig
    tensors: list[StoredTensor]
    model: PreTrainedModel

    @property
    def stack(self) -> Anatomy:
        return anatomy(self.model)

    @property
    def tower_of(self) -> str | None:
        return tower_of(self.folder, self.model)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(held.piece.size for held in self.tensors)


@quiet()
def open_checkpoint(folder: Path, trust: bool = False) -> Checkpoint:
    """Read what `from_pretrained` would of a model folder, and check it against its own config, without reading a weight.

    `trust`: code that the model brings may run. Raises ModelError for what is missing, damaged, quantised, unknown, or
    disagrees.
    """
    pieces, config = pieces_of(folder), read_config(folder, trust)
    tower = tower_config(config)
    model = hollow(tower or config)
    if tower is not None:
        pieces = tower_pieces(pieces, config, model)
    found = anatomy(model)
    tensors, left = Mapping(model).held(pieces, found.path)
    if belies_ties(model, tensors):
        model = hollow(untied(model.config), type(model))
    require_agreement(model, tensors, left, found, folder)
    require_whole(model, pieces, folder)
    return Checkpoint(folder, model.config, tensors, model)


def tower_of(folder: Path, model: PreTrainedModel) -> str | None:
    """The type of the model in `folder` where `model` is only its text tower; None where it is the whole model."""
    kind = read_json(folder, CONFIG).get("model_type") if folder.is_dir() else model.config.model_type
    return None if kind == model.config.model_type else str(kind)


def read_config(folder: Path, trust: bool = False) -> PretrainedConfig:
    """The config of a model folder; raises ModelError for a type that is unknown, no decoder, or quantised."""
    raw = read_json(folder, CONFIG)
    require_numbers(raw, folder)
    kind = raw.get("model_type")
    if trust and "--" in json.dumps(raw.get("auto_map")):
        raise ModelError(f"The code of {folder} is in another place of the hub: put it into the folder to have it run.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        cause = plain(error)[:200]
        if "auto_map" in raw and not trust:
            raise ModelError(
                f"{folder} brings code of its own for the model type {kind!r}, which is not run: give a model that"
                " transformers knows, or read that code and allow it (trust_remote_code, --trust-remote-code)."
            ) from error
        raise ModelError(f"The config of {folder} (model type {kind!r}) cannot be used: {cause}") from error
    refuse_unsupported(tower_config(config) or config)
    set_flags(config, dict.fromkeys(UNWRITTEN, False))
    return config


def hollow(config: PretrainedConfig, kind: type[PreTrainedModel] | None = None) -> PreTrainedModel:
    """Build the model of a config on the meta device, of the class `kind`; raises ModelError where it cannot be built.

    Without a class it is what AutoModelForCausalLM makes of the config, for some the text tower of a larger model.
    """
    own = copy.deepcopy(config)
    try:
        with torch.device("meta"), quiet():
            made: PreTrainedModel = (
                kind._from_config(own)
                if kind
                else AutoModelForCausalLM.from_config(own, trust_remote_code=brings_code(config))
            )
    except Exception as error:
        cause = plain(error)[:200] or type(error).__name__
        raise ModelError(f"A {config.model_type!r} model cannot be built from its config: {cause}") from error
    made.config.architectures = [type(made).__name__]
    return made


def buffer_bytes(model: PreTrainedModel) -> int:
    """Bytes of what a model computes from its config alone (masks, positions), which no file of weights bounds."""
    return sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())


def save_config(config: PretrainedConfig, folder: Path, source: Path | None) -> None:
    """Write a config that AutoModelForCausalLM reads; a text tower's of a type unknown to it is written inside its larger model's."""
    if source is not None and config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not brings_code(config):
        larger = read_config(source)
        larger.text_config, larger.architectures = config, config.architectures
        config = larger
    config.save_pretrained(folder)
