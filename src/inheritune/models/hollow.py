"""A model folder read without its weights: config, tensors by their headers, and the blocks as they would be built."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inheritune.decoder.anatomy import Anatomy, anatomy, brings_code, refuse_unsupported
from inheritune.decoder.parts import split_name
from inheritune.errors import ModelError
from inheritune.models.distrust import require_agreement, require_numbers
from inheritune.models.folder import pieces_of, read_json
from inheritune.models.quiet import quiet
from inheritune.models.shards import Piece


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, checked: its config and its tensors under the model's own names, and the model without weights."""

    folder: Path
    config: PretrainedConfig
    pieces: list[Piece]
    model: PreTrainedModel

    @property
    def stack(self) -> Anatomy:
        return anatomy(self.model)

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(piece.size for piece in self.pieces)


def open_checkpoint(folder: Path, trust: bool = False) -> Checkpoint:
    """Read what a model folder holds, and hold it against its own config, without reading a weight.

    `trust`: code that the model brings may run. Raises ModelError for what is missing, damaged, quantised, unknown, or
    disagrees.
    """
    pieces = pieces_of(folder)
    config = read_config(folder, trust)
    model = hollow(config)
    found = anatomy(model)
    pieces = _own_names(pieces, found.path, folder, model)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _compare(shapes, pieces, found.path, found.depth, folder)
    require_agreement(model, pieces, found.path, found.depth, folder)
    return Checkpoint(folder, config, pieces, model)


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


def _own_names(pieces: list[Piece], path: str, folder: Path, model: PreTrainedModel) -> list[Piece]:
    """The tensors under the model's names: files may leave out what wraps the decoder (transformer.h: h)."""
    prefix = path.removesuffix(_path_in([piece.name for piece in pieces], path, folder))
    own = set(model.state_dict())

    def named(name: str) -> str:
        inside = split_name(prefix + name, path)[0] is not None
        return prefix + name if inside or (name not in own and prefix + name in own) else name

    return [replace(piece, name=named(piece.name)) for piece in pieces] if prefix else pieces


def _path_in(names: Sequence[str], path: str, folder: Path) -> str:
    parts = path.split(".")
    for start in range(len(parts)):
        shorter = ".".join(parts[start:])
        if any(name.startswith(f"{shorter}.0.") for name in names):
            return shorter
    raise ModelError(f"The files of {folder} hold no blocks under the name {path}.")


def _compare(shapes: dict[str, tuple[int, ...]], pieces: list[Piece], path: str, depth: int, folder: Path) -> None:
    held = {piece.name: piece.shape for piece in pieces}
    for name, shape in held.items():
        if shapes.get(name, shape) != shape:
            raise ModelError(f"{name} in {folder} is {shape}, but its config asks for {shapes[name]}.")
    suffixes = {suffix for block, suffix in (split_name(name, path) for name in held) if block is not None}
    for name in shapes:
        block, suffix = split_name(name, path)
        if block is not None and suffix in suffixes and name not in held:
            raise ModelError(f"The files of {folder} hold no {name}, which its config asks for.")
    present = {split_name(name, path)[0] for name in held}
    if missing := sorted(set(range(depth)) - present):
        raise ModelError(f"The files of {folder} hold nothing of block {missing[0]} of {depth}.")
