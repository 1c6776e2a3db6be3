"""A block map carried out on tensors in files: which bytes go where, and writing them. No torch is needed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inheritune.disk.files import write_text
from inheritune.disk.folders import require_room
from inheritune.models.folder import INDEX, WEIGHTS
from inheritune.models.shards import ZEROS, Piece, StoredTensor, write_shard
from inheritune.progress import Tally, silent
from inheritune.surgery.blockmap import BlockMap

TINY = 200_000_000  # bytes of weights up to which every cut is proved unless asked not to
WRITING = "Writing the weights"


Shards = dict[Path, list[StoredTensor]]


def inherited(sources: Sequence[Sequence[StoredTensor]], block_map: BlockMap, path: str) -> Shards:
    """The tensors of each file of the target; it has one for each file of the sources that anything is taken from."""
    shards: Shards = {}
    for number, tensors in enumerate(sources):
        for held in tensors:
            for own in block_map.targets(held.own, path, number):
                shards.setdefault(held.piece.file, []).append(held.moved(own, path))
    for held in sources[-1]:
        for own in block_map.zeros(held.own, path):
            shards.setdefault(held.piece.file, []).append(_zeros(held).moved(own, path))
    return shards


def _zeros(held: StoredTensor) -> StoredTensor:
    """Zeros of the same dtype and shape, under the same name."""
    return replace(held, piece=replace(held.piece, file=ZEROS, start=0, end=held.piece.size))


def write_shards(shards: Sequence[list[Piece]], target: Path, count: Tally = silent) -> None:
    """Write these shards, with an index where there are several; raises OutputError where the disk has no room.

    `count` counts files.
    """
    shards = [shard for shard in shards if shard]
    total = sum(piece.size for shard in shards for piece in shard)
    require_room(target, total)
    names = _names(len(shards))
    count(0, len(shards))
    for done, (name, shard) in enumerate(zip(names, shards, strict=True), 1):
        write_shard(shard, target / name)
        count(done, len(shards))
    if len(shards) > 1:
        weight_map = {piece.name: file for file, shard in zip(names, shards, strict=True) for piece in shard}
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_text(target / INDEX, json.dumps(content, indent=2) + "\n")


def _names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
