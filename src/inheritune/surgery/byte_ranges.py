"""A block map carried out on tensors in files: which bytes go where, and writing them. No torch is needed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inheritune.disk.files import write_text
from inheritune.disk.folders import require_room
from inheritune.models.folder import INDEX, WEIGHTS
from inheritune.models.shards import Piece, write_shard
from inheritune.surgery.blockmap import BlockMap

TINY = 200_000_000  # bytes of weights up to which every cut is proved unless asked not to
_ZEROS = Path("/dev/zero")
Named = tuple[str, Piece]


def inherited(sources: Sequence[list[Piece]], block_map: BlockMap, path: str) -> dict[Path, list[Named]]:
    """What each file of the target holds: one for each file of the sources of which anything is taken."""
    shards: dict[Path, list[Named]] = {}
    for number, pieces in enumerate(sources):
        for piece in pieces:
            for name in block_map.targets(piece.name, path, number):
                shards.setdefault(piece.file, []).append((name, piece))
    for piece in sources[-1]:
        zero = replace(piece, file=_ZEROS, start=0, end=piece.size)
        for name in block_map.zeros(piece.name, path):
            shards.setdefault(piece.file, []).append((name, zero))
    return shards


def write(shards: Sequence[list[Named]], target: Path) -> None:
    """Write these shards, with an index where there are several; raises OutputError where the disk has no room."""
    shards = [shard for shard in shards if shard]
    total = sum(piece.size for shard in shards for _, piece in shard)
    require_room(target, total)
    names = _names(len(shards))
    for name, shard in zip(names, shards, strict=True):
        write_shard(shard, target / name)
    if len(shards) > 1:
        weight_map = {name: file for file, shard in zip(names, shards, strict=True) for name, _ in shard}
        content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        write_text(target / INDEX, json.dumps(content, indent=2) + "\n")


def _names(count: int) -> list[str]:
    if count == 1:
        return [WEIGHTS]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
