"""Find the deepest cut of a wanted size: by blocks, parameters, bytes as written, or the time that a token takes."""

from statistics import median

import torch
from transformers import PreTrainedModel

from inheritune.config.sections import Size
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.errors import RecipeError
from inheritune.evaluation.generation import token_seconds
from inheritune.models.quiet import quiet
from inheritune.surgery.in_memory import inherit
from inheritune.words import plural

_PROMPT, _NEW, _WARM_UP = 16, 24, 4  # tokens


def deepest(size: Size, model: PreTrainedModel, dtype: torch.dtype) -> int:
    """The depth of the deepest cut that is no larger than asked for, whichever blocks it keeps, if it is written in `dtype`.

    Raises RecipeError if the whole model is no larger, or if one block is too large.
    """
    whole = anatomy(model).depth
    if size.latency:
        fits = _faster(size.latency, model)
    else:
        fits = size.depth or _fitting(size.parameters or (size.memory or 0) // dtype.itemsize, model)
    if fits >= whole:
        raise RecipeError(
            f"growth.target asks for {size.told}, which the reference meets with all its {plural(whole, 'block')}: ask for a smaller one"
        )
    if fits < 1:
        raise RecipeError(
            f"growth.target asks for {size.told}, and one block with all that stands outside the blocks is more: ask for a larger one"
        )
    return fits


def _fitting(most: int, model: PreTrainedModel) -> int:
    """The number of blocks that fit into `most` parameters beside all that is outside the blocks; the largest blocks are taken first."""
    blocks = sorted(_parameters_by_block(model), reverse=True)
    room, count = most - (parameter_count(model) - sum(blocks)), 0
    for parameters in blocks:
        room -= parameters
        count += room >= 0
    return count


def _parameters_by_block(model: PreTrainedModel) -> list[int]:
    return [sum(parameter.numel() for parameter in block.parameters()) for block in anatomy(model).blocks]


def _faster(times: float, model: PreTrainedModel) -> int:
    """The deepest cut that generates a token this many `times` faster, extrapolated from the times of the whole model and half its blocks."""
    whole = anatomy(model).depth
    half = whole // 2
    with quiet():
        long, short = _seconds(model), _seconds(inherit(model, range(half)))
    each = max(0.0, long - short) / (whole - half)
    outside = long - whole * each
    return int((long / times - outside) / each) if each else 0


def _seconds(model: PreTrainedModel) -> float:
    """Median seconds of one new token, with a key-value cache."""
    ids_1T = torch.arange(_PROMPT, device=model.device)[None]
    return median(token_seconds(model, ids_1T, _NEW)[_WARM_UP:])
