"""Carries a block map out on a model in memory."""

from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from inheritune.blocks.anatomy import anatomy, depth_of
from inheritune.blocks.blockmap import BlockMap, grown
from inheritune.blocks.layerlists import cut_config
from inheritune.errors import InputError

OUTSIDE = ("all", "as-released", "none")


def inherit(
    model: PreTrainedModel,
    blocks: Sequence[int] | str | BlockMap,
    *,
    parts: Sequence[str] | None = None,
    outside: str = "all",
    seed: int = 0,
) -> PreTrainedModel:
    """A new model made of these blocks of `model`, which is left as it is.

    `parts` (attention, mlp, norms) limits what is inherited of each block, `outside` what is inherited of the
    rest: "all", "none" or "as-released" (the head alone, as in the paper's public code). What is not inherited
    is initialised as the architecture does it, from `seed`. Raises InputError for blocks that do not exist.
    """
    if outside not in OUTSIDE:
        raise InputError(f"outside={outside!r} is unknown: choose {', '.join(OUTSIDE)}.")
    found = anatomy(model)
    block_map = as_map(blocks).within(found.depth).of_parts(parts)
    target = _fresh(model, cut_config(model.config, block_map.blocks), seed)
    left_out = _left_out(model, outside)
    state = {
        name: tensor
        for source_name, tensor in model.state_dict().items()
        if source_name not in left_out
        for name in block_map.targets(source_name, found.path)
    }
    _load(target, state)
    return target


def grow(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    *,
    held: Sequence[int],
    wanted: Sequence[int],
    seed: int = 0,
) -> PreTrainedModel:
    """A new model of the reference's blocks `wanted`: those that `target` holds (`held`) as it has trained them.

    Everything outside the blocks comes from `target`. Raises InputError where `held` does not fit the target.
    """
    found = anatomy(target)
    if len(held) != found.depth:
        raise InputError(f"The target has {found.depth} blocks, but {len(held)} held blocks were named.")
    BlockMap.of(wanted).within(anatomy(reference).depth)
    block_map = grown(held, wanted)
    result = _fresh(target, cut_config(reference.config, wanted), seed)
    state = {
        name: tensor
        for source, model in enumerate((target, reference))
        for source_name, tensor in model.state_dict().items()
        for name in block_map.targets(source_name, found.path, source)
    }
    _load(result, state)
    return result


def fresh(source: PreTrainedModel | PretrainedConfig, depth: int, seed: int) -> PreTrainedModel:
    """A model of `depth` blocks of this kind, initialised as its architecture does it, from `seed`."""
    if depth < 1:
        raise InputError(f"A model of {depth} blocks cannot be made: ask for at least one.")
    config = source.config if isinstance(source, PreTrainedModel) else source
    kinds = [place % depth_of(config) for place in range(depth)]
    return _fresh(source, cut_config(config, kinds), seed)


def as_map(blocks: Sequence[int] | str | BlockMap) -> BlockMap:
    """A block map from any of the ways in which a caller may write one."""
    if isinstance(blocks, BlockMap):
        return blocks
    return BlockMap.parse(blocks) if isinstance(blocks, str) else BlockMap.of(blocks)


def _fresh(
    source: PreTrainedModel | PretrainedConfig, config: PretrainedConfig, seed: int
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not isinstance(source, PreTrainedModel):
            return AutoModelForCausalLM.from_config(config)
        made = type(source)._from_config(config, dtype=source.dtype)
    return made.to(source.device).train(source.training)


def _left_out(model: PreTrainedModel, outside: str) -> set[str]:
    """Names of the tensors outside the blocks that are not inherited."""
    if outside == "all":
        return set()
    found = anatomy(model)
    inside = {name for name in model.state_dict() if name.startswith(f"{found.path}.")}
    head = {id(tensor) for tensor in found.head.parameters()} if outside == "as-released" else set()
    kept = {name for name, tensor in model.named_parameters(remove_duplicate=False) if id(tensor) in head}
    return set(model.state_dict()) - inside - kept


def _load(target: PreTrainedModel, state: dict[str, torch.Tensor]) -> None:
    """Each tensor with its own dtype, which a model may mix."""
    own = {**dict(target.named_buffers()), **dict(target.named_parameters(remove_duplicate=False))}
    for name, tensor in state.items():
        own[name].data = tensor.detach().clone()
