"""Carry out a block map on models in memory."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from inheritune.decoder import fold
from inheritune.decoder.anatomy import Anatomy, anatomy, depth_of, refuse_unsupported, true_config
from inheritune.decoder.kinds import first_difference, require_kinds
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.stack import Stack
from inheritune.errors import InputError, ModelError
from inheritune.surgery.blockmap import BlockMap, grown, require_held, require_kept

OUTSIDE = ("all", "as-released", "none")
Tensors = dict[str, Tensor]


def inherit(
    model: PreTrainedModel,
    blocks: Sequence[int] | str | BlockMap,
    *,
    parts: Sequence[str] | None = None,
    outside: str = "all",
    seed: int = 0,
) -> PreTrainedModel:
    """Return a new model made of these blocks of `model`, which is left unchanged (the paper's Algorithm 1, steps 1-3).

    `parts` (attention, mlp, norms) limits what is inherited of each block, `outside` what is inherited of
    the rest: "all", "none" or "as-released" (the head alone, as in the paper's public code). What is not
    inherited is initialised as the architecture does it, from `seed`. Raises InputError for blocks that do
    not exist and ModelError for a model whose blocks cannot stand elsewhere.
    """
    anatomy(model)  # a model that is no decoder is refused before anything else
    block_map = as_map(blocks)
    if parts is not None:
        block_map = block_map.of_parts(parts)
    return assemble([model], with_outside(block_map, model, outside), seed)


def grow(
    target: PreTrainedModel,
    reference: PreTrainedModel,
    *,
    held: Sequence[int],
    wanted: Sequence[int],
    start: str = "inherited",
    seed: int = 0,
) -> PreTrainedModel:
    """Return a new model of the reference's blocks `wanted`; those that `target` holds (`held`) keep its trained weights.

    Everything outside the blocks comes from `target`. New blocks start `inherited` from the reference, `copied`
    from the target's nearest block of the same kind, as an `identity` (the reference's block, with what it adds to the
    residual set to zero), or `random` from `seed`. Raises InputError where `held` does not fit the target,
    or `wanted` does not fit the reference or drops a held block.
    """
    block_map = growth(target, reference, held, wanted, start)
    require_kept(held, wanted)
    return assemble([target, reference], block_map, seed)


def growth(
    target: PreTrainedModel, reference: PreTrainedModel, held: Sequence[int], wanted: Sequence[int], start: str
) -> BlockMap:
    """Return the block map that `grow` carries out; raises the same errors. Both models may be on the meta device."""
    found, parent = anatomy(target), anatomy(reference)
    require_held(held, found.depth)
    BlockMap.of([*held, *wanted]).within(parent.depth)
    blocks, known = parent.blocks, fold.folded(reference.config)
    return grown(held, wanted, start, lambda one, other: first_difference(blocks[one], blocks[other], known) is None)


@torch.no_grad()
def assemble(
    sources: Sequence[PreTrainedModel],
    block_map: BlockMap,
    seed: int = 0,
    on: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> PreTrainedModel:
    """Return the new model that `block_map` makes of `sources`, on the device `on` (None: where the first source is).

    Its config is the first source's, with the fields by layer of the last source's, cut to the map's kinds.
    What is not inherited is initialised as the architecture does it, from `seed`. Whatever is computed, not copied, is in `dtype`
    (None: that of the last source). Raises InputError for blocks that do not exist and ModelError for models whose blocks
    cannot stand where the map wants them.
    """
    stacks = [anatomy(source) for source in sources]
    block_map.within(*(stack.depth for stack in stacks))
    parent, path = sources[-1], stacks[-1].path
    configs = [true_config(source) for source in sources]
    config = cut_config(configs[-1], block_map.kinds, base=configs[0])
    target = new_model(type(parent), config, dtype or parent.dtype, seed, not block_map.whole)
    state = _zeros(parent.state_dict(), block_map, path)
    for number, source in enumerate(sources):
        state |= _carried(source.state_dict(), block_map, path, number)
    for name, factor in fold.factors(target.config, path, block_map.before).items():
        state[name] = fold.scaled(state[name].to(dtype or state[name].dtype), factor)
    on = on or sources[0].device
    _fill(target, state, block_map.whole, on)
    require_kinds(anatomy(target).blocks, repeated(stacks, block_map), configs, fold.folded(parent.config))
    target = _as_is(target, sources[0], on)
    if any(place.silent for place in block_map.places):
        require_identities(target, block_map)
    return target


def repeated(stacks: Sequence[Anatomy], block_map: BlockMap) -> list[nn.Module]:
    """For each place, the source's block whose kind it must have: the one that it inherits, or one of the last source if it is fresh."""
    return [
        stacks[-1].blocks[place.kind] if place.block is None else stacks[place.source].blocks[place.block]
        for place in block_map.places
    ]


def with_outside(block_map: BlockMap, model: PreTrainedModel, outside: str) -> BlockMap:
    """Return the map that inherits `outside` of what surrounds the blocks of `model`; raises InputError for an unknown word.

    "as-released" is what the paper's public code takes: the head, and what is tied to it.
    """
    if outside not in OUTSIDE:
        raise InputError(f"outside={outside!r} is unknown: choose {', '.join(OUTSIDE)}.")
    if outside == "none":
        return replace(block_map, outside=None)
    if outside == "all":
        return block_map
    head = {id(tensor) for tensor in anatomy(model).head.parameters()}
    kept = (name for name, tensor in model.named_parameters(remove_duplicate=False) if id(tensor) in head)
    return replace(block_map, only=frozenset(kept))


@torch.no_grad()
def require_identities(model: PreTrainedModel, block_map: BlockMap) -> None:
    """Raise ModelError where a silent block of `model` changes what goes through it.

    A block that scales or normalises the residual itself is no identity, whatever its parts add.
    """
    kind, silent = model.config.model_type, [at for at, own in enumerate(block_map.places) if own.silent]
    words = model.get_input_embeddings().get_parameter("weight").shape[0]
    try:
        stack = Stack(model, torch.arange(3, 11)[None] % words)
        same = all(torch.equal(stack.run(stack.hidden0, [place]), stack.hidden0) for place in silent)
    except Exception as error:
        raise ModelError(f"Whether blocks of {kind!r} are identities cannot be seen: start them otherwise.") from error
    if not same:
        raise ModelError(f"A block of {kind!r} cannot be made an identity: let new blocks start otherwise.")


def fresh(
    source: PreTrainedModel | PretrainedConfig, depth: int, seed: int, dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """Return a model like `source` with `depth` blocks, initialised from `seed` as its architecture does it.

    It is in `dtype` or, where that is None, in the dtype of a source that is a model.
    """
    if depth < 1:
        raise InputError(f"A model of {depth} blocks cannot be made: ask for at least one.")
    config = source.config if isinstance(source, PreTrainedModel) else source
    refuse_unsupported(config)
    kinds = [place % depth_of(config) for place in range(depth)]
    cut = cut_config(config, kinds)
    if not isinstance(source, PreTrainedModel):
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        return new_model(kind, cut, dtype, seed, initialised=True)
    made = new_model(type(source), cut, dtype or source.dtype, seed, initialised=True)
    return _as_is(made, source, source.device)


def as_map(blocks: Sequence[int] | str | BlockMap) -> BlockMap:
    """A block map from any form in which a caller may give one: a list of blocks, a text like "0-5,8", or a map."""
    if isinstance(blocks, BlockMap):
        return blocks
    return BlockMap.parse(blocks) if isinstance(blocks, str) else BlockMap.of(blocks)


def new_model(
    kind: type[PreTrainedModel], config: PretrainedConfig, dtype: torch.dtype | None, seed: int, initialised: bool
) -> PreTrainedModel:
    """Build a model of this config, initialised from `seed` as its architecture does it, or with weights on the meta device, to be filled.

    Raises ModelError where transformers cannot build it, as when a family does not allow the order of its blocks.
    """
    try:
        with torch.random.fork_rng(devices=[]), nullcontext() if initialised else _without_weights():
            torch.manual_seed(seed)
            made: PreTrainedModel = kind._from_config(config, dtype=dtype)
        made.tie_weights()
    except Exception as error:
        cause = (str(error) or type(error).__name__).split("\n")[0][:200]
        raise ModelError(f"These blocks make no {config.model_type!r} model that can be built: {cause}") from error
    return made


@contextmanager
def _without_weights() -> Iterator[None]:
    """Within the context, new parameters take no memory (meta device); what is computed from a config (rotary frequencies) is real."""
    register = nn.Module.register_parameter

    def register_nowhere(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), parameter.requires_grad)

    try:
        nn.Module.register_parameter = register_nowhere  # type: ignore[assignment,method-assign]
        with no_init_weights():
            yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _as_is(made: PreTrainedModel, source: PreTrainedModel, on: torch.device) -> PreTrainedModel:
    made.generation_config = copy.deepcopy(source.generation_config)
    made.to(on)  # type: ignore[arg-type]
    return made.train(source.training)


def _zeros(state: Tensors, block_map: BlockMap, path: str) -> Tensors:
    """Zeros for the tensors that close the parts of silent blocks."""
    return {name: torch.zeros_like(tensor) for old, tensor in state.items() for name in block_map.zeros(old, path)}


def _carried(state: Tensors, block_map: BlockMap, path: str, source: int) -> Tensors:
    return {name: tensor for old, tensor in state.items() for name in block_map.targets(old, path, source)}


def _fill(target: PreTrainedModel, state: Tensors, whole: bool, on: torch.device) -> None:
    """Fill `target` with copies of `state` on a device, each in its own dtype, as models may mix them; `whole`: none may be missing."""
    own = {name: tensor for name, tensor in target.state_dict(keep_vars=True).items() if tensor is not None}
    wrong = [name for name in state if name not in own or own[name].shape != state[name].shape]
    wrong += sorted(set(own) - set(state)) if whole else []
    if wrong:
        kind = target.config.model_type
        raise ModelError(f"Cannot cut {kind!r} so: {wrong[0]} does not fit a model of this depth.")
    filled: dict[int, nn.Parameter] = {}  # tied parameters stay one
    for name, tensor in state.items():
        path, _, last = name.rpartition(".")
        module, before = target.get_submodule(path), own[name]
        if last not in module._parameters:
            module._buffers[last] = tensor.detach().to(on, copy=True)
            continue
        if id(before) not in filled:
            filled[id(before)] = nn.Parameter(tensor.detach().to(on, copy=True), before.requires_grad)
        module._parameters[last] = filled[id(before)]
