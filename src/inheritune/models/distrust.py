"""Check a model folder's config and files against each other, before a weight is read."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import Anatomy, further_layers
from inheritune.decoder.names import SIZES
from inheritune.decoder.parts import split_name
from inheritune.errors import ModelError
from inheritune.models.shards import INTEGER_DTYPES, StoredTensor, same_bytes
from inheritune.runtime.device import CPU
from inheritune.runtime.gauge import free_memory

# Keys that count what is built or listed one by one, which with an absurd number would never end.
_COUNTED = re.compile(
    r"n(um)?_(?!embd$|embeddings$|positions$|ctx$|inner$|words$).*|(.*_)?(layers?|experts?|heads?|blocks?|depths?|repeats)"
    r"|first_k_dense_replace|attention_types|(mamba_)?chunk_size"
)
_MOST = 1 << 14


def require_numbers(config: dict[str, Any], folder: Path) -> None:
    """Raise ModelError for a size in a config that is no number, below 1, or absurd, also in lists."""
    for key, value in config.items():
        if isinstance(value, dict):
            require_numbers(value, folder)
        elif key in SIZES and value is not None and (type(value) is not int or value < 1):
            raise ModelError(f"config.json of {folder} says {key} = {value!r:.40}: a whole number from 1 on is needed.")
        elif _COUNTED.fullmatch(key) and _largest(value) > _MOST:
            raise ModelError(f"config.json of {folder} says {key} = {value!r:.40}: more than {_MOST:,} are no model's.")


def _largest(value: Any) -> float:
    """The largest number in lists within lists; 0 where there is none."""
    if isinstance(value, list):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int | float) else 0


def require_agreement(
    model: PreTrainedModel, tensors: Sequence[StoredTensor], left: Sequence[str], found: Anatomy, folder: Path
) -> None:
    """Raise ModelError for blocks beyond the depth, and for integer tensors where weights belong.

    `left` names the tensors that become no parameter of the model. Multi-token-prediction layers may follow the last block.
    """
    _no_more_blocks(model, left, found, folder)
    floats = {name for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    for piece in (held.piece for held in tensors if held.own in floats):
        if piece.dtype in INTEGER_DTYPES:
            raise ModelError(
                f"{piece.name} in {folder} holds whole numbers ({piece.dtype}): weights are F32, F16 or BF16."
            )


def _no_more_blocks(model: PreTrainedModel, left: Sequence[str], found: Anatomy, folder: Path) -> None:
    ignored = [re.compile(pattern) for pattern in model._keys_to_ignore_on_load_unexpected or ()]
    last = found.depth + further_layers(model.config)
    for name in left:
        block, _ = split_name(name, found.path)
        if block is not None and block >= last and not any(pattern.search(name) for pattern in ignored):
            raise ModelError(
                f"The files of {folder} hold {name}, but its config has {found.depth} blocks: they do not belong together."
            )


def belies_ties(model: PreTrainedModel, tensors: Sequence[StoredTensor]) -> bool:
    """Whether the files hold different tensors where the config ties them; transformers then leaves them untied."""
    held, names = {held.own: held.piece for held in tensors}, defaultdict(list)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if name in held:
            names[id(parameter)].append(held[name])
    return any(not same_bytes(tied[0], other) for tied in names.values() for other in tied[1:])


def require_memory(needed: int, place: Path, on: torch.device = CPU) -> None:
    """Raise ModelError where a model's `needed` bytes do not fit into a device's memory."""
    free = free_memory(on)
    if needed > free:
        raise ModelError(
            f"The weights of {place} take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free:"
            " take a smaller model, or a machine with more."
        )
