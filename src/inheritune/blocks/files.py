"""Carries a block map out between safetensors files: streamed, without building the model."""

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inheritune.blocks.anatomy import anatomy, refuse_unsupported
from inheritune.blocks.blockmap import BlockMap, grown, require_held, split_name
from inheritune.blocks.fold import moves
from inheritune.blocks.folder import INDEX, WEIGHTS, pieces_of, read_json, require_room
from inheritune.blocks.kinds import require_kinds
from inheritune.blocks.layerlists import cut_config
from inheritune.blocks.quiet import quiet
from inheritune.blocks.shards import Piece, write_shard
from inheritune.errors import ModelError


@dataclass(frozen=True)
class Checkpoint:
    """A model folder, checked: its config and tensors, its blocks without weights, their name in the files."""

    folder: Path
    config: PretrainedConfig
    pieces: list[Piece]
    blocks: nn.ModuleList
    path: str

    @property
    def depth(self) -> int:
        return len(self.blocks)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read what a model folder holds, and hold it against its own config, without reading a weight.

    Raises ModelError for what is missing, damaged, quantised, unknown, or disagrees.
    """
    pieces = pieces_of(folder)
    config = read_config(folder)
    model = _hollow(config)
    found = anatomy(model)
    path = _path_in([piece.name for piece in pieces], found.path, folder)
    prefix = found.path.removesuffix(path)
    shapes = {name.removeprefix(prefix): tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    _compare(shapes, pieces, path, len(found.blocks), folder)
    return Checkpoint(folder, config, pieces, found.blocks, path)


def read_config(folder: Path) -> PretrainedConfig:
    """The config of a model folder; raises ModelError for a type that is unknown, no decoder, or quantised."""
    kind = read_json(folder, "config.json").get("model_type")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        cause = str(error).split("\n")[0][:200]
        raise ModelError(f"The config of {folder} (model type {kind!r}) cannot be used: {cause}") from error
    refuse_unsupported(config)
    return config


def inherit_files(source: Checkpoint, blocks: Sequence[int], target: Path) -> None:
    """Write weights and config of the model that `blocks` of `source` make into the folder `target`."""
    block_map = BlockMap.of(blocks).within(source.depth)
    _write([source], block_map, blocks, target, source)


def grow_files(
    held: Sequence[int], target: Checkpoint, reference: Checkpoint, wanted: Sequence[int], out: Path
) -> None:
    """As `modules.grow`, between files: `target` holds the reference's blocks `held`, `out` will hold `wanted`."""
    require_held(held, target.depth)
    BlockMap.of([*held, *wanted]).within(reference.depth)
    _write([target, reference], grown(held, wanted), wanted, out, reference)


def _write(
    sources: list[Checkpoint],
    block_map: BlockMap,
    kinds: Sequence[int],
    target: Path,
    parent: Checkpoint,
) -> None:
    config = cut_config(parent.config, kinds)
    if moves(config, [place.block or 0 for place in block_map.places]):
        raise ModelError("These blocks compute with their own index: cut this model in memory, not between files.")
    require_kinds(anatomy(_hollow(config)).blocks, [parent.blocks[kind] for kind in kinds], parent.config, frozenset())
    shards = _shards(sources, block_map)
    total = sum(piece.size for shard in shards for _, piece in shard)
    require_room(target, total)
    names = _shard_names(len(shards))
    for name, shard in zip(names, shards, strict=True):
        write_shard(shard, target / name)
    if len(shards) > 1:
        _write_index(shards, names, total, target)
    with quiet():
        config.save_pretrained(target)


def _hollow(config: PretrainedConfig) -> PreTrainedModel:
    """The model without its weights."""
    with torch.device("meta"), quiet():
        made: PreTrainedModel = AutoModelForCausalLM.from_config(copy.deepcopy(config))
    return made


def _path_in(names: Sequence[str], path: str, folder: Path) -> str:
    """The name of the blocks in the files, which may leave out what wraps the decoder (transformer.h: h)."""
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


def _shards(sources: list[Checkpoint], block_map: BlockMap) -> list[list[tuple[str, Piece]]]:
    """What each file of the target holds: one for each file of the sources of which anything is taken."""
    shards: dict[Path, list[tuple[str, Piece]]] = {}
    for number, source in enumerate(sources):
        for piece in source.pieces:
            for name in block_map.targets(piece.name, source.path, number):
                shards.setdefault(piece.file, []).append((name, piece))
    return list(shards.values())


def _shard_names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def _write_index(shards: list[list[tuple[str, Piece]]], names: list[str], total: int, target: Path) -> None:
    weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name, _ in shard}
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (target / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
