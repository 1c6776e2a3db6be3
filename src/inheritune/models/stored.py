"""Which parameter of a model each tensor in its files becomes: transformers' own mapping, on names and shapes alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    convert_and_load_state_dict_in_model,
    dot_natural_key,
    rename_source_key,
)
from transformers.modeling_utils import LoadStateDictConfig

from inheritune.decoder.parts import split_name
from inheritune.errors import ModelError
from inheritune.models.shards import ZEROS, Piece, StoredTensor

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
STORED_DTYPES = {
    **FLOATS,
    **{"C64": torch.complex64, "BOOL": torch.bool, "I32": torch.int32, "I64": torch.int64, "U64": torch.uint64},
}


@dataclass(frozen=True)
class Unread:
    """A tensor in a file that is read only when it is indexed, `tensor[...]`, as `from_pretrained` does."""

    piece: Piece

    def __getitem__(self, whole: EllipsisType) -> Tensor:
        if self.piece.file == ZEROS:
            return torch.zeros(self.piece.shape, dtype=STORED_DTYPES[self.piece.dtype])
        with self.piece.file.open("rb") as stream:
            stream.seek(self.piece.start)
            raw = bytearray(stream.read(self.piece.size))
        return torch.frombuffer(raw, dtype=STORED_DTYPES[self.piece.dtype]).view(self.piece.shape)


class Mapping:
    """Maps names in the files of `model` to names in the model itself, as `from_pretrained` does."""

    def __init__(self, model: PreTrainedModel) -> None:
        transforms = get_model_conversion_mapping(model)
        self._renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
        self._converters = [one for one in transforms if isinstance(one, WeightConverter)]
        self._prefix, self._state = model.base_model_prefix, model.state_dict()

    def held(self, pieces: Sequence[Piece], path: str) -> tuple[list[StoredTensor], list[str]]:
        """Return the tensors that become a parameter, and the names of those that transformers finds no parameter for and ignores.

        Raises ModelError for a tensor whose name in the file does not number the blocks under `path` as the model does.
        """
        # In transformers' order: whether some renamings apply to a name depends on the names before it.
        names = sorted((piece.name for piece in pieces), key=dot_natural_key)
        own = {name: self._own(name) for name in names}
        left = [own[name] for name in names if own[name] not in self._state]
        return [self._held(piece, own[piece.name], path) for piece in pieces if own[piece.name] in self._state], left

    def _held(self, piece: Piece, own: str, path: str) -> StoredTensor:
        block, suffix = split_name(own, path)
        if block is None:
            return StoredTensor(piece, own)
        mapped = str if own == piece.name else self._raw
        end, parts = f"{block}.{suffix}", piece.name.split(".")
        start = mapped(piece.name).removesuffix(end)
        for at in [at for at, part in enumerate(parts) if part == str(block)]:
            before, after = ".".join([*parts[:at], ""]), ".".join(["", *parts[at + 1 :]])
            if mapped(f"{before}{block + 1}{after}") == f"{start}{block + 1}.{suffix}":
                return StoredTensor(piece, own, (before, after))
        raise ModelError(f"{piece.name} in {piece.file.parent} does not say its block, which is {block} in the model.")

    def converts(self, name: str) -> str | None:
        """What is done with the tensor of this name beside renaming it, as a string to compare; None where that is nothing."""
        pattern = rename_source_key(name, self._renamings, self._converters)[1]
        one = next((one for one in self._converters if pattern in one.source_patterns), None)
        return f"{pattern} {one.target_patterns} {one.operations}" if one else None

    def _own(self, name: str) -> str:
        own = rename_source_key(name, self._renamings, self._converters, self._prefix, self._state)[0]
        if own not in self._state and name in self._state:
            return name
        return own

    def _raw(self, name: str) -> str:
        """The name mapped by rule, whatever the model holds."""
        return rename_source_key(name, self._renamings, self._converters)[0]


def require_whole(model: PreTrainedModel, pieces: Sequence[Piece], folder: Path) -> None:
    """Raise ModelError where these tensors lack one that `model`, on the meta device, needs, or have it in another shape.

    `model` is loaded as `from_pretrained` loads it, and stays on the meta device.
    """
    state = {piece.name: torch.empty(piece.shape, dtype=STORED_DTYPES[piece.dtype], device="meta") for piece in pieces}
    mapping: Any = get_model_conversion_mapping(model)
    plan = LoadStateDictConfig(device_map={"": "meta"}, weight_mapping=mapping)
    info, _ = convert_and_load_state_dict_in_model(model, state, plan)
    model.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(info)
    for name, held, asked in sorted(info.mismatched_keys):
        raise ModelError(f"{name} in {folder} is {tuple(held)}, but its config asks for {tuple(asked)}.")
    for name, cause in sorted(info.conversion_errors.items()):
        raise ModelError(f"{name} cannot be made of the tensors in {folder}: {str(cause).splitlines()[0][:200]}")
    for name in sorted(info.missing_keys):
        raise ModelError(f"The files of {folder} hold no {name}, which its config asks for.")
