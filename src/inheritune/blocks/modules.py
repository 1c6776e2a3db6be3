"""Carries a block map out on a model in memory."""

import re
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from inheritune.blocks import fold
from inheritune.blocks.anatomy import anatomy, depth_of, refuse_unsupported
from inheritune.blocks.blockmap import BlockMap, grown, require_held
from inheritune.blocks.kinds import require_kinds
from inheritune.blocks.layerlists import cut_config
from inheritune.errors import InputError, ModelError

OUTSIDE = ("all", "as-released", "none")
STARTS = ("inherited", "identity", "random")
# The matrices by which a block's parts add to the residual.
CLOSING = re.compile(
    r"(^|\.)(o_proj|c_proj|out_proj|wo|dense|dense_4h_to_h|down_proj|fc2|w2|output_linear)"
    r"(\.(weight|bias)|_bias|$)"
)
State = dict[str, Tensor]


def inherit(
    model: PreTrainedModel,
    blocks: Sequence[int] | str | BlockMap,
    *,
    parts: Sequence[str] | None = None,
    outside: str = "all",
    seed: int = 0,
) -> PreTrainedModel:
    """A new model made of these blocks of `model`, which is left as it is (the paper's Algorithm 1, steps 1-3).

    `parts` (attention, mlp, norms) limits what is inherited of each block, `outside` what is inherited of
    the rest: "all", "none" or "as-released" (the head alone, as in the paper's public code). What is not
    inherited is initialised as the architecture does it, from `seed`. Raises InputError for blocks that do
    not exist and ModelError for a model whose blocks cannot stand elsewhere.
    """
    if outside not in OUTSIDE:
        raise InputError(f"outside={outside!r} is unknown: choose {', '.join(OUTSIDE)}.")
    found = anatomy(model)
    block_map = as_map(blocks).within(found.depth).of_parts(parts)
    listed = block_map.blocks
    whole = parts is None and outside == "all"
    target = _build(model, cut_config(model.config, listed), seed, initialised=not whole)
    kept = {name: tensor for name, tensor in model.state_dict().items() if name not in _left_out(model, outside)}
    _fill(target, _carried(kept, block_map, found.path), whole)
    known = fold.refold(target, before=listed)
    require_kinds(anatomy(target).blocks, [found.blocks[block] for block in listed], model.config, known)
    return target


def grow(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    *,
    held: Sequence[int],
    wanted: Sequence[int],
    start: str = "inherited",
    seed: int = 0,
) -> PreTrainedModel:
    """A new model of the reference's blocks `wanted`; those that `target` holds (`held`) as it trained them.

    Everything outside the blocks comes from `target`. New blocks start `inherited` from the reference, as its
    block made an `identity` (what it adds to the residual is zero), or `random` from `seed`. Raises InputError
    where `held` does not fit the target or `wanted` does not fit the reference.
    """
    if start not in STARTS:
        raise InputError(f"start={start!r} is unknown: choose {', '.join(STARTS)}.")
    found, parent = anatomy(target), anatomy(reference)
    require_held(held, found.depth)
    BlockMap.of([*held, *wanted]).within(parent.depth)
    block_map = grown(held, wanted)
    random = start == "random"
    result = _build(target, cut_config(reference.config, wanted), seed, initialised=random)
    state = _carried(target.state_dict(), block_map, found.path)
    if not random:
        state |= _carried(reference.state_dict(), block_map, parent.path, source=1)
    _fill(result, state, whole=not random)
    if start == "identity":
        _silence([anatomy(result).blocks[i] for i, place in enumerate(block_map.places) if place.source == 1])
    known = fold.refold(result, before=[place.block or 0 for place in block_map.places])
    require_kinds(anatomy(result).blocks, [parent.blocks[block] for block in wanted], reference.config, known)
    return result


def fresh(source: PreTrainedModel | PretrainedConfig, depth: int, seed: int) -> PreTrainedModel:
    """A model of `depth` blocks of this kind, initialised as its architecture does it, from `seed`."""
    if depth < 1:
        raise InputError(f"A model of {depth} blocks cannot be made: ask for at least one.")
    config = source.config if isinstance(source, PreTrainedModel) else source
    refuse_unsupported(config)
    kinds = [place % depth_of(config) for place in range(depth)]
    return _build(source, cut_config(config, kinds), seed, initialised=True)


def as_map(blocks: Sequence[int] | str | BlockMap) -> BlockMap:
    """A block map from any of the ways in which a caller may write one."""
    if isinstance(blocks, BlockMap):
        return blocks
    return BlockMap.parse(blocks) if isinstance(blocks, str) else BlockMap.of(blocks)


def _build(
    source: PreTrainedModel | PretrainedConfig, config: PretrainedConfig, seed: int, initialised: bool
) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]), nullcontext() if initialised else no_init_weights():
        torch.manual_seed(seed)
        if not isinstance(source, PreTrainedModel):
            return AutoModelForCausalLM.from_config(config)
        made = type(source)._from_config(config, dtype=source.dtype)
    made.tie_weights()
    return made.to(source.device).train(source.training)


@torch.no_grad()
def _silence(blocks: Sequence[nn.Module]) -> None:
    """Make these blocks identities; raises ModelError for one that names no matrix that we know to close it."""
    for block in blocks:
        closing = [tensor for name, tensor in block.named_parameters() if CLOSING.search(name)]
        if len(closing) < 2:
            raise ModelError(f"Cannot make {type(block).__name__} an identity: start inherited or random.")
        for tensor in closing:
            tensor.zero_()


def _left_out(model: PreTrainedModel, outside: str) -> set[str]:
    """Names of the tensors outside the blocks that are not inherited."""
    if outside == "all":
        return set()
    found = anatomy(model)
    inside = {name for name in model.state_dict() if name.startswith(f"{found.path}.")}
    head = {id(tensor) for tensor in found.head.parameters()} if outside == "as-released" else set()
    kept = {name for name, tensor in model.named_parameters(remove_duplicate=False) if id(tensor) in head}
    return set(model.state_dict()) - inside - kept


def _carried(state: State, block_map: BlockMap, path: str, source: int = 0) -> State:
    return {name: tensor for old, tensor in state.items() for name in block_map.targets(old, path, source)}


def _fill(target: PreTrainedModel, state: State, whole: bool) -> None:
    """Copies the tensors in, each with its own dtype, which a model may mix; `whole`: none may be missing."""
    own = {name: tensor for name, tensor in target.state_dict(keep_vars=True).items() if tensor is not None}
    wrong = [name for name in state if name not in own or own[name].shape != state[name].shape]
    wrong += sorted(set(own) - set(state)) if whole else []
    if wrong:
        kind = target.config.model_type
        raise ModelError(f"Cannot cut {kind!r} so: {wrong[0]} does not fit a model of this depth.")
    for name, tensor in state.items():
        own[name].data = tensor.detach().clone()
