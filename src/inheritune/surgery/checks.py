"""The checks of a proof: each returns None, or a sentence on the first thing that is wrong."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from inheritune.decoder.anatomy import anatomy, embedding_rows, is_tied, text_config, ties_told
from inheritune.decoder.names import CHOOSERS, WINDOWS
from inheritune.decoder.outputs import kept_cache
from inheritune.decoder.stack import Stack
from inheritune.models.load import straight_to
from inheritune.models.quiet import quiet
from inheritune.runtime.device import room_for
from inheritune.surgery.blockmap import BlockMap

# Shapes: B sequences, T tokens, V vocabulary.

# Relative tolerances. A state-space scan in pieces rounds differently; a block that reads another block's cache is off by far more.
CACHED = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}
# Relative tolerances. Equal but for a folded scale, and for kernels whose rounding depends on where a tensor lies in memory.
ARRANGED = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.02, torch.float16: 0.005}
WIDE, NARROW = 256, 16  # tokens: the widest window that is tested as it is, and what a wider one is narrowed to


def some_tokens(model: PreTrainedModel) -> Tensor:
    """Fixed random tokens (2, T), with T greater than the model's sliding window where that is short."""
    plain = text_config(model.config)
    longest = getattr(plain, "max_position_embeddings", None) or 0
    window = window_of(plain)
    length = max(24, window + 8) if window <= WIDE else 24
    generator = torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(
        3, _vocabulary(model), (2, min(length, longest) if longest > 0 else length), generator=generator
    )
    return tokens_BT.to(model.device)


def window_of(config: PretrainedConfig) -> int:
    """The widest window of a config, in tokens; 0 without one."""
    values = (getattr(config, name, None) for name in WINDOWS)
    return max((value for value in values if isinstance(value, int)), default=0)


def _vocabulary(model: PreTrainedModel) -> int:
    """The number of token ids that have both an embedding and a logit."""
    return min(embedding_rows(model), anatomy(model).head.get_parameter("weight").shape[0])


def finite(model: PreTrainedModel) -> str | None:
    """Check that every weight is finite."""
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            return f"{name} holds NaN or infinity."
    return None


def places(model: PreTrainedModel) -> str | None:
    """Check that every block knows its place (`layer_idx`)."""
    found = anatomy(model)
    for place, block in enumerate(found.blocks):
        for name, module in block.named_modules():
            index = getattr(module, "layer_idx", None)
            if index is not None and index not in (place, -1):  # -1: a part that blocks share has no place
                return f"{found.path}.{place}.{name} believes to be block {index}."
    return None


def ties(model: PreTrainedModel, reference: PreTrainedModel | None) -> str | None:
    """Check that what the config ties is tied; where the reference does not tie it either, nothing is checked."""
    if not ties_told(model.config):
        return None
    if is_tied(model) or (reference is not None and not is_tied(reference)):
        return None
    return "The config ties the head to the token embeddings, but they are two tensors."


@torch.no_grad()
def cached(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    """Check that cached generation equals uncached: the first half at once, then token by token."""
    whole_BTV = _logits(model, tokens_BT)
    prompt = tokens_BT.shape[1] // 2
    output = model(tokens_BT[:, :prompt], use_cache=True)
    if not kept_cache(model, output):
        return None
    parts = [output.logits]
    for place in range(prompt, tokens_BT.shape[1]):
        output = model(tokens_BT[:, place : place + 1], use_cache=True, **kept_cache(model, output))
        parts.append(output.logits)
    return _differ(torch.cat(parts, dim=1), whole_BTV, tolerance=CACHED[model.dtype])


@contextmanager
def narrowed(model: PreTrainedModel) -> Iterator[None]:
    """Within the context, each wide window of the model, a number in its config and blocks, is `NARROW` tokens."""
    plain = text_config(model.config)
    holders: list[Any] = [plain, *model.modules()]
    kept = [
        (holder, name, value)
        for holder in holders
        for name in WINDOWS
        if isinstance(value := vars(holder).get(name), int) and value > WIDE
    ]
    try:
        for holder, name, _ in kept:
            setattr(holder, name, NARROW)
        yield
    finally:
        for holder, name, value in kept:
            setattr(holder, name, value)


def gradients(
    model: PreTrainedModel, sources: Sequence[PreTrainedModel], block_map: BlockMap, tokens_BT: Tensor
) -> str | None:
    """Check that every parameter gets a gradient without NaN, except those that get none in the source that they come from either."""
    missed = _missed(model, tokens_BT)
    if missed:
        for number, source in enumerate(sources):
            path = anatomy(source).path
            with room_for([source], [model], tokens_BT.device):
                known = {name for old in _missed(source, tokens_BT) for name in block_map.targets(old, path, number)}
            missed = {name: words for name, words in missed.items() if name not in known}
    return min(missed.items())[1] if missed else None


def _missed(model: PreTrainedModel, tokens_BT: Tensor) -> dict[str, str]:
    """The parameters that get no gradient, or one with NaN, by name, each with a sentence on it."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    saved = {name: parameter.grad for name, parameter in model.named_parameters()}
    asked = [pair for pair in model.named_parameters() if not any(word in pair[0] for word in CHOOSERS)]
    missed = {name: f"No gradient reaches {name}." for name, _ in asked}

    def see(name: str, parameter: Tensor) -> None:
        """Look at a gradient once it is complete, and drop it: all together would take as much memory as the weights."""
        assert parameter.grad is not None
        del missed[name]
        if parameter.grad.isnan().any():
            missed[name] = f"The gradient of {name} holds NaN."
        parameter.grad = None

    model.requires_grad_(True).zero_grad()
    hooks = [parameter.register_post_accumulate_grad_hook(partial(see, name)) for name, parameter in asked]
    model(tokens_BT, labels=tokens_BT, use_cache=False).loss.backward()
    for hook in hooks:
        hook.remove()
    for name, parameter in model.named_parameters():
        parameter.grad = saved[name]
    for parameter in frozen:
        parameter.requires_grad_(False)
    return missed


@torch.no_grad()
def reloaded(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    """Check that after saving and loading every tensor is the same bit by bit, none is missing or unexpected, and logits are the same."""
    own_BTV, device = _logits(model, tokens_BT), tokens_BT.device
    with room_for([], [model], device):
        with tempfile.TemporaryDirectory() as folder, quiet():
            model.save_pretrained(folder)
            loaded: Any = type(model).from_pretrained(
                folder, dtype=model.dtype, output_loading_info=True, **straight_to(device)
            )
        again, report = loaded
        again.to(device).eval()
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if report.get(kind):
                return f"{kind.replace('_', ' ')}: {sorted(map(str, report[kind]))[0]}."
        kept = {**again.state_dict(), **dict(again.named_buffers())}
        for name, tensor in {**model.state_dict(), **dict(model.named_buffers())}.items():
            if name not in kept or not torch.equal(tensor.to(device), kept[name]):
                return f"{name} differs after it was saved and loaded."
        return _differ(_logits(again, tokens_BT), own_BTV, tolerance=ARRANGED[model.dtype])


@torch.no_grad()
def arranged(
    model: PreTrainedModel, sources: Sequence[PreTrainedModel], block_map: BlockMap, tokens_BT: Tensor
) -> str | None:
    """Check the logits against the sources' own blocks in the target's order, each called as its own model calls it.

    Blocks are called at the target's positions; a silent one is left out. A GPU holds one source at a time: the one that the target's
    tensors outside the blocks come from, and of another only the block that is called.
    """
    own_BTV, at, device = _logits(model, tokens_BT), block_map.outside or 0, tokens_BT.device
    with room_for([], [model, *sources], device):
        stacks = [_stack(source, sources[at], tokens_BT) for source in sources]
        hidden_BTD = stacks[at].hidden0
        with room_for([sources[at]], [], device):
            for place in block_map.places:
                if place.block is not None and not place.silent:
                    stack = stacks[place.source]
                    with room_for([stack.blocks[place.block]], [], device):
                        hidden_BTD = stack.run(hidden_BTD, [place.block])
            return _differ(own_BTV, stacks[at].logits(hidden_BTD), tolerance=ARRANGED[model.dtype])


def _stack(source: PreTrainedModel, home: PreTrainedModel, tokens_BT: Tensor) -> Stack:
    """The blocks of `source`, called with the positions of `home`: a target may have other positions and another vocabulary."""
    with _positions_of(home, source), room_for([source], [], tokens_BT.device):
        return Stack(source, tokens_BT.clamp(max=embedding_rows(source) - 1))


@contextmanager
def _positions_of(home: PreTrainedModel, model: PreTrainedModel) -> Iterator[None]:
    """Within the context, the modules beside the blocks of `model` that have no weights (rotary positions) are those of `home`."""
    own, other = (one.get_submodule(anatomy(one).path.rpartition(".")[0]) for one in (model, home))
    kept = {
        name: child
        for name, child in own.named_children()
        if next(child.parameters(), None) is None and type(child) is type(getattr(other, name, None))
    }
    try:
        for name in kept:
            setattr(own, name, getattr(other, name))
        yield
    finally:
        for name, child in kept.items():
            setattr(own, name, child)


def _logits(model: PreTrainedModel, tokens_BT: Tensor) -> Tensor:
    return model(tokens_BT, use_cache=False).logits


def _differ(seen_BTV: Tensor, wanted_BTV: Tensor, tolerance: float) -> str | None:
    """Return None, or a sentence on the first position at which logits differ by more than the relative tolerance."""
    scale = max(1.0, wanted_BTV.abs().max().item())
    apart_BT = (seen_BTV.float() - wanted_BTV.float()).abs().amax(dim=-1) / scale
    wrong = (~(apart_BT <= tolerance)).nonzero().tolist()
    if not wrong:
        return None
    row, position = wrong[0]
    return f"Logits differ by {apart_BT[row, position]:.2g}, first at position {position} of sequence {row}."
