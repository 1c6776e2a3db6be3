"""A model folder read without its weights: config, tensors by their headers, and the blocks as they would be built."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inheritune.decoder.anatomy import Anatomy, anatomy, brings_code, refuse_unsupported, untied
from inheritune.decoder.outputs import UNWRITTEN, set_flags
from inheritune.errors import ModelError
from inheritune.models.distrust import belies_ties, require_agreement, require_numbers
from inheritune.models.folder import pieces_of, read_json
from inheritune.models.quiet import quiet
from inheritune.models.shards import Held
from inheritune.models.stored import Mapping, require_whole


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, checked: its config, its tensors as the parameters that they become, and the model without weights."""

    folder: Path
    config: PretrainedConfig
    tensors: list[Held]
    model: PreTrainedModel

    @property
    def stack(self) -> Anatomy:
        return anatomy(self.model)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(held.piece.size for held in self.tensors)


@quiet()
def open_checkpoint(folder: Path, trust: bool = False) -> Checkpoint:
    """Read what `from_pretrained` would of a model folder, and hold it against its own config, without reading a weight.

    `trust`: code that the model brings may run. Raises ModelError for what is missing, damaged, quantised, unknown, or
    disagrees.
    """
    pieces = pieces_of(folder)
    model = hollow(read_config(folder, trust))
    found = anatomy(model)
    tensors, left = Mapping(model).held(pieces, found.path)
    if belies_ties(model, tensors):
        model = hollow(untied(model.config))
    require_agreement(model, tensors, left, found, folder)
    require_whole(model, pieces, folder)
    return Checkpoint(folder, model.config, tensors, model)


def read_config(folder: Path, trust: bool = False) -> PretrainedConfig:
    """The config of a model folder; raises ModelError for a type that is unknown, no decoder, or quantised."""
    raw = read_json(folder, "config.json")
    require_numbers(raw, folder)
    kind = raw.get("model_type")
    if trust and "--" in json.dumps(raw.get("auto_map")):
        raise ModelError(f"The code of {folder} is in another place of the hub: put it into the folder to have it run.")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
    except Exception as error:
        cause = str(error).split("\n")[0][:200]
        if "auto_map" in raw and not trust:
            raise ModelError(
                f"{folder} brings code of its own for the model type {kind!r}, which is not run: give a model that"
                " transformers knows, or read that code and allow it (trust_remote_code, --trust-remote-code)."
            ) from error
        raise ModelError(f"The config of {folder} (model type {kind!r}) cannot be used: {cause}") from error
    refuse_unsupported(config)
    set_flags(config, dict.fromkeys(UNWRITTEN, False))
    return config


def hollow(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a config without its weights; raises ModelError where it cannot be built."""
    try:
        with torch.device("meta"), quiet():
            made: PreTrainedModel = AutoModelForCausalLM.from_config(
                copy.deepcopy(config), trust_remote_code=brings_code(config)
            )
    except Exception as error:
        cause = (str(error) or type(error).__name__).split("\n")[0][:200]
        raise ModelError(f"A {config.model_type!r} model cannot be built from its config: {cause}") from error
    return made
