"""Carries a block map out between safetensors files: streamed, without building a model of what is inherited."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig, PreTrainedModel

from inheritune.decoder import fold
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.kinds import require_kinds
from inheritune.decoder.layerlists import cut_config
from inheritune.errors import ModelError
from inheritune.models.folder import pieces_of
from inheritune.models.hollow import Checkpoint, hollow
from inheritune.models.quiet import quiet
from inheritune.models.shards import Piece, read_header
from inheritune.surgery.blockmap import BlockMap
from inheritune.surgery.byte_ranges import Named, inherited, write
from inheritune.surgery.in_memory import build

DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def assemble_files(sources: Sequence[Checkpoint], block_map: BlockMap, target: Path, seed: int = 0) -> None:
    """As `modules.assemble`, between files: weights and config of the new model, into the folder `target`.

    Tensors that are inherited are copied byte by byte, through one small buffer. Those that are not are drawn as the
    architecture draws them, for which the new model is built once in memory.
    """
    stacks = [source.stack for source in sources]
    block_map.within(*(stack.depth for stack in stacks))
    parent, path = sources[-1], stacks[-1].path
    config = cut_config(parent.config, block_map.kinds)
    meant = [stacks[-1].blocks[kind] for kind in block_map.kinds]
    model = hollow(config)
    require_kinds(anatomy(model).blocks, meant, parent.config, fold.folded(config))
    shards = inherited([source.pieces for source in sources], block_map, path)
    _require_fit(shards, model)
    with tempfile.TemporaryDirectory(prefix=".made.", dir=target) as made:
        _fold(shards, fold.factors(config, path, block_map.before), Path(made))
        if not block_map.whole:
            _add_fresh(shards, parent, config, seed, Path(made))
        write(list(shards.values()), target)
    with quiet():
        config.save_pretrained(target)


def _require_fit(shards: dict[Path, list[Named]], model: PreTrainedModel) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, piece in (named for shard in shards.values() for named in shard):
        if shapes.get(name, piece.shape) != piece.shape:
            raise ModelError(f"{name} of {piece.file.parent} is {piece.shape}, and the model needs {shapes[name]}.")


def _fold(shards: dict[Path, list[Named]], factors: dict[str, float], made: Path) -> None:
    """Put tensors into which a block's move is folded in the place of those that they come from."""
    for shard in shards.values():
        for at, (name, piece) in enumerate(shard):
            if name in factors:
                file = made / f"{name}.safetensors"
                save_file({name: fold.scaled(_read(piece), factors[name])}, file)
                shard[at] = (name, read_header(file)[0])


def _read(piece: Piece) -> torch.Tensor:
    with piece.file.open("rb") as stream:
        stream.seek(piece.start)
        raw = bytearray(stream.read(piece.size))
    return torch.frombuffer(raw, dtype=DTYPES[piece.dtype]).view(piece.shape)


def _add_fresh(
    shards: dict[Path, list[Named]], parent: Checkpoint, config: PretrainedConfig, seed: int, made: Path
) -> None:
    """Add what no source gives, as the architecture draws it: to the one file, or as a file of its own."""
    covered = {name for shard in shards.values() for name, _ in shard}
    kept = next((DTYPES[piece.dtype] for piece in parent.pieces if piece.dtype in DTYPES), None)
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else kept
    drawn = build(type(parent.model), config, dtype, seed, initialised=True)
    with quiet():
        drawn.save_pretrained(made)
    missing = [(piece.name, piece) for piece in pieces_of(made) if piece.name not in covered]
    single = len({piece.file for piece in parent.pieces}) == 1 and shards
    shards.setdefault(next(iter(shards)) if single else made, []).extend(missing)
