"""Write a model folder that AutoModelForCausalLM loads, with all that goes along: the one writer, and the place for a new format."""

import copy
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from inheritune.decoder.outputs import kept_flags, set_flags
from inheritune.models.folder import CONFIG, copy_along, pieces_of, read_json
from inheritune.models.hollow import save_config
from inheritune.models.quiet import quiet


def write_model(
    model: PreTrainedModel,
    folder: Path,
    *,
    source: Path | None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    dtype: torch.dtype | None = None,
    state: dict[str, Tensor] | None = None,
) -> None:
    """Fill `folder` with `model` and what goes along with it.

    `source` is the folder or GGUF file that it was made from. A folder's tokenizer, templates, generation config and licences
    are copied as they are; without one, `tokenizer` is written. With `dtype` the model is first converted to it, in place;
    `state` holds the weights of a model that is sharded over processes.
    """
    if dtype is not None:
        model.to(dtype)  # type: ignore[arg-type]
    if source is not None and source.is_dir():
        set_flags(model.config, kept_flags(read_json(source, CONFIG)))
    with quiet():
        model.save_pretrained(folder, state_dict=state)
        save_config(model.config, folder, source if source is not None and source.is_dir() else None)
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
    if source is not None and source.is_dir():
        copy_along(source, folder)


@torch.no_grad()
def rounded(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy whose saved weights are rounded to `dtype`. What loading computes anew (rotary frequencies, scales) is not rounded."""
    own = copy.deepcopy(model)
    for weight in own.state_dict().values():
        if weight.is_floating_point():
            weight.copy_(weight.to(dtype))
    return own


def weight_bytes(place: Path) -> int:
    """Bytes of the weights of a model folder or a GGUF file."""
    return sum(piece.size for piece in pieces_of(place)) if place.is_dir() else place.stat().st_size


@quiet()
@torch.no_grad()
def cache_bytes_per_token(model: PreTrainedModel, dtype: torch.dtype) -> int | None:
    """Bytes of keys and values that a token adds to the cache in `dtype`, while no window is full; None if it keeps none.

    Measured by running two tokens. A state that does not grow with the text (Mamba's) does not count.
    """
    ids_BT = torch.zeros(1, 2, dtype=torch.long, device=model.device)
    cache = model(input_ids=ids_BT, use_cache=True).past_key_values
    held = [getattr(layer, name, None) for layer in getattr(cache, "layers", ()) for name in ("keys", "values")]
    numbers = sum(tensor.numel() for tensor in held if isinstance(tensor, Tensor))
    return numbers * dtype.itemsize // ids_BT.shape[1] or None
