"""Cut plain families between files without torch, where the config and the tensors' headers alone leave no doubt.

The family, its keys, and each tensor's name and shape must be as expected. Whatever is not is left to `by_model.py`, which
builds the model without its weights to see its structure. So nothing is refused here that is not refused for every model.
"""

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from inheritune.decoder.families import FAMILIES
from inheritune.decoder.family import Family
from inheritune.decoder.names import ACTIVATIONS, BY_LAYER, NOT_BY_LAYER, SAME_TENSORS
from inheritune.decoder.parts import PARTS, split_name
from inheritune.disk.files import write_text
from inheritune.models.folder import CONFIG, copy_along, pieces_of, placed, read_json, require_place
from inheritune.models.shards import Piece, StoredTensor, fingerprint
from inheritune.progress import Tally, silent
from inheritune.records.model_folder import ModelOrigin
from inheritune.surgery.blockmap import BlockMap
from inheritune.surgery.byte_ranges import inherited, write_shards
from inheritune.surgery.record import license_of, origin_of, save_with_card

_NORM = re.compile(r"layer_?norm")
_REFUSED = re.compile(r"quant|auto_map")  # keys that are left to `by_model.py`, whatever their values
_EACH = ("full_attention", 0)  # what the last layer of each period is, in a list of kinds or of rotary layers
_FLOATS = frozenset({"F32", "F16", "BF16"})


def inherit_light(
    source: Path, target: Path, blocks: Sequence[int], least: int, force: bool, count: Tally = silent
) -> ModelOrigin | None:
    """Cut a model folder of more than `least` bytes into the new folder `target`; do nothing and return None where that cannot be done here.

    `count` counts the files of weights. Raises InputError for a block that does not exist, and what `folder` raises for damaged or unsafe folders.
    """
    require_place(target, [source], force)
    pieces, config = pieces_of(source), read_json(source, CONFIG)
    if sum(piece.size for piece in pieces) <= least or not _expected(config, pieces):
        return None
    family = FAMILIES[config["model_type"]]
    depth = family.depth(config)
    block_map = BlockMap.of(blocks).within(depth)
    if not _counted(config, family, blocks):
        return None
    record = ModelOrigin(
        action="inherit",
        source=source.name,
        fingerprint=fingerprint((source / CONFIG).read_bytes(), pieces),
        reference_depth=depth,
        blocks=list(blocks),
        parts=sorted(PARTS),
        outside="all",
        origin=origin_of(source, blocks),
    )
    tensors = [StoredTensor(piece, piece.name, _around(piece.name, family.path)) for piece in pieces]
    shards = inherited([tensors], block_map, family.path).values()
    with placed(target, force) as folder:
        write_shards([[held.piece for held in shard] for shard in shards], folder, count)
        content = json.dumps(_cut(config, family, blocks), indent=2, sort_keys=True)
        write_text(folder / CONFIG, content + "\n")
        copy_along(source, folder)
        save_with_card(record, folder, license_of(source))
    return record


def _around(name: str, path: str) -> tuple[str, str] | None:
    """The parts of a tensor's name before and after its block's number; None outside the blocks."""
    block, suffix = split_name(name, path)
    return None if block is None else (f"{path}.", f".{suffix}")


def _cut(config: dict[str, Any], family: Family, blocks: Sequence[int]) -> dict[str, Any]:
    depth = {key: len(blocks) for key in family.keys("L") if key in config}
    lists = {key: [config[key][block] for block in blocks] for key in _lists(family) if config.get(key) is not None}
    kept = {key: value for key, value in config.items() if key != "transformers_weights"}
    return {**kept, **depth, **lists}


def _counted(config: dict[str, Any], family: Family, blocks: Sequence[int]) -> bool:
    """Whether the cut's kinds follow its family's rule by number; else there is a warning to give, for which the model's class is needed."""
    for key in _lists(family):
        kept = [config[key][block] in _EACH for block in blocks] if config.get(key) is not None else []
        period = family.lists.get(key)
        counted = [(place + 1) % period == 0 if period else kept[0] for place in range(len(kept))]
        if kept != counted:
            return False
    return not config.get("use_sliding_window")


def _lists(family: Family) -> set[str]:
    """The keys of a family's lists by layer."""
    return {"layer_types", *family.lists}


def _expected(config: dict[str, Any], pieces: list[Piece]) -> bool:
    """Whether config and tensors are exactly those of a known family."""
    family = FAMILIES.get(str(config.get("model_type")))
    if family is None or config.get("architectures") not in (None, [family.architecture]):
        return False
    if not all(_plain(family, name, value) for name, value in config.items()):
        return False
    try:
        wanted = dict(islice(family.tensors(config), len(pieces) + 1))
        certain = family.agrees(config) and _listed(config, family)
    except (KeyError, TypeError, ValueError):
        return False
    dtypes = {piece.dtype for piece in pieces}
    return (
        certain
        and {piece.name: piece.shape for piece in pieces} == wanted
        and len(dtypes & _FLOATS) == len(dtypes) == 1
    )


def _listed(config: dict[str, Any], family: Family) -> bool:
    """Whether the config holds all lists by layer that the family needs, each as long as the depth, with known values only."""
    depth = family.depth(config)
    held = {key: config[key] for key in _lists(family) if config.get(key) is not None}
    if not held.keys() >= {*family.lists}:
        return False
    alike = all(len(values) == depth for values in held.values())
    return (
        alike
        and all(kind in SAME_TENSORS for kind in held.pop("layer_types", []))
        and all(value in (0, 1) for values in held.values() for value in values)
    )


def _plain(family: Family, name: str, value: Any) -> bool:
    """Whether a key of a config says nothing by layer, or only what the family is known to say."""
    if name in (*family.keys("L"), *family.known, *family.needs, *_lists(family)):
        return True
    if BY_LAYER.search(_NORM.sub("", name)) or _REFUSED.search(name):
        return value is None
    if name.startswith(("hidden_act", "activation")) and name != "activation_dropout":
        return value in ACTIVATIONS
    return not isinstance(value, list) or name in NOT_BY_LAYER
