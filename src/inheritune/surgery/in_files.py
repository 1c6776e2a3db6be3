"""Carry out a block map between safetensors files: streamed, without building a model for what is inherited."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig

from inheritune.decoder import fold
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.kinds import require_kinds
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.parts import split_name
from inheritune.models.folder import pieces_of
from inheritune.models.hollow import Checkpoint, hollow, save_config
from inheritune.models.quiet import quiet
from inheritune.models.shards import StoredTensor, read_header
from inheritune.models.stored import FLOATS, Mapping, Unread, require_whole
from inheritune.progress import Tally, silent
from inheritune.surgery.blockmap import BlockMap
from inheritune.surgery.byte_ranges import Shards, inherited, write_shards
from inheritune.surgery.in_memory import new_model, repeated


@quiet()
def assemble_files(
    sources: Sequence[Checkpoint], block_map: BlockMap, target: Path, seed: int = 0, count: Tally = silent
) -> None:
    """As `in_memory.assemble`, between files: weights and config of the new model, into the folder `target`.

    Tensors that are inherited are copied byte by byte, through one small buffer. Those that are not are drawn as the
    architecture draws them, for which the new model is built once in memory. `count` counts the files of weights.
    """
    stacks = [source.stack for source in sources]
    block_map.within(*(stack.depth for stack in stacks))
    parent, path = sources[-1], stacks[-1].path
    configs = [source.config for source in sources]
    config = cut_config(configs[-1], block_map.kinds, base=configs[0])
    model = hollow(config, type(parent.model))
    require_kinds(anatomy(model).blocks, repeated(stacks, block_map), configs, fold.folded(config))
    shards = inherited([source.tensors for source in sources], block_map, path)
    with tempfile.TemporaryDirectory(prefix=".made.", dir=target) as made:
        _fold(shards, fold.factors(config, path, block_map.before), Path(made))
        if len(sources) > 1:
            _as_wide(shards, sources[0], path, Path(made))
        if not block_map.whole:
            _add_fresh(shards, parent, config, seed, Path(made))
        written = [[held.piece for held in shard] for shard in shards.values()]
        require_whole(model, [piece for shard in written for piece in shard], sources[0].folder)
        write_shards(written, target, count)
    save_config(config, target, sources[0].folder)


def _fold(shards: Shards, factors: dict[str, float], made: Path) -> None:
    """Replace tensors by ones into which a block's move is folded."""
    for shard in shards.values():
        for at, held in enumerate(shard):
            if held.own in factors:
                shard[at] = _made(held, fold.scaled(Unread(held.piece)[...], factors[held.own]), made)


def _as_wide(shards: Shards, first: Checkpoint, path: str, made: Path) -> None:
    """Convert tensors of other sources to the dtype in which the first source keeps the same tensor of its own blocks."""
    dtypes = {split_name(held.own, path)[1]: held.piece.dtype for held in first.tensors}
    files = {held.piece.file for held in first.tensors}
    for shard in shards.values():
        for at, held in enumerate(shard):
            own = held.piece.dtype
            dtype = own if held.piece.file in files else dtypes.get(split_name(held.own, path)[1], own)
            if dtype != own and {dtype, own} <= FLOATS.keys():
                shard[at] = _made(held, Unread(held.piece)[...].to(FLOATS[dtype]), made)


def _made(held: StoredTensor, tensor: torch.Tensor, made: Path) -> StoredTensor:
    """Write `tensor` to a file of its own, and return `held` with these numbers."""
    file = made / f"{held.own}.safetensors"
    save_file({held.piece.name: tensor}, file)
    return replace(held, piece=read_header(file)[0])


def _add_fresh(shards: Shards, parent: Checkpoint, config: PretrainedConfig, seed: int, made: Path) -> None:
    """Add what no source gives, initialised as the architecture does it: to the source's one file, or as a file of its own."""
    covered = {held.own for shard in shards.values() for held in shard}
    kept = next((FLOATS[held.piece.dtype] for held in parent.tensors if held.piece.dtype in FLOATS), None)
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else kept
    drawn = new_model(type(parent.model), config, dtype, seed, initialised=True)
    drawn.save_pretrained(made)
    tensors, _ = Mapping(drawn).held(pieces_of(made), parent.stack.path)
    single = len({held.piece.file for held in parent.tensors}) == 1 and shards
    shards.setdefault(next(iter(shards)) if single else made, []).extend(
        held for held in tensors if held.own not in covered
    )
