"""The questions of a proof: each answers None, or with the first thing that is wrong, in words."""

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

# A scan in pieces rounds differently; a block that reads another's cache is off by far more.
CACHED = {torch.float32: 1e-3, torch.float64: 1e-6, torch.bfloat16: 0.1, torch.float16: 0.02}
# Equal but for a folded scale and for kernels that round by where a tensor lies in memory.
ARRANGED = {torch.float32: 1e-5, torch.float64: 1e-12, torch.bfloat16: 0.02, torch.float16: 0.005}
WIDE, NARROW = 256, 16  # the widest window that is walked past as it is; the one that a wider one is narrowed to


def some_tokens(model: PreTrainedModel) -> Tensor:
    """Fixed tokens (2, T), longer than a sliding window where that is short."""
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
    """Tokens that may stand in a text and be asked for."""
    return min(embedding_rows(model), anatomy(model).head.get_parameter("weight").shape[0])


def finite(model: PreTrainedModel) -> str | None:
    """Every weight is a number."""
    for name, tensor in model.named_parameters():
        if not torch.isfinite(tensor).all():
            return f"{name} holds NaN or infinity."
    return None


def places(model: PreTrainedModel) -> str | None:
    """Every block knows its place."""
    found = anatomy(model)
    for place, block in enumerate(found.blocks):
        for name, module in block.named_modules():
            index = getattr(module, "layer_idx", None)
            if index is not None and index not in (place, -1):  # -1: a part that blocks share has no place
                return f"{found.path}.{place}.{name} believes to be block {index}."
    return None


def ties(model: PreTrainedModel, reference: PreTrainedModel | None) -> str | None:
    """What the config ties is tied; in a model whose reference does not tie it either, nothing is asked."""
    if not ties_told(model.config):
        return None
    if is_tied(model) or (reference is not None and not is_tied(reference)):
        return None
    return "The config ties the head to the token embeddings, but they are two tensors."


@torch.no_grad()
def cached(model: PreTrainedModel, tokens_BT: Tensor) -> str | None:
    """Cached generation equals uncached: the first half at once, then token by token."""
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
    """The model with each of its wide windows made narrow, which is a number in its config and blocks, and back."""
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
    """Gradients reach every parameter as numbers, but for those that they miss in the source that it comes from, too."""
    missed = _missed(model, tokens_BT)
    if missed:
        for number, source in enumerate(sources):
            path = anatomy(source).path
            with room_for([source], [model], tokens_BT.device):
                known = {name for old in _missed(source, tokens_BT) for name in block_map.targets(old, path, number)}
            missed = {name: words for name, words in missed.items() if name not in known}
    return min(missed.items())[1] if missed else None


def _missed(model: PreTrainedModel, tokens_BT: Tensor) -> dict[str, str]:
    """The parameters that no gradient reaches, or one that is no number, in words."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    saved = {name: parameter.grad for name, parameter in model.named_parameters()}
    asked = [pair for pair in model.named_parameters() if not any(word in pair[0] for word in CHOOSERS)]
    missed = {name: f"No gradient reaches {name}." for name, _ in asked}

    def see(name: str, parameter: Tensor) -> None:
        """A gradient is looked at once it is whole, and goes at once: all together would take as much memory as the weights."""
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
    """Saved and loaded, every tensor is the same bit by bit, nothing is missing or unexpected, and it computes the same."""
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
    """The sources' own blocks, each called as its own model calls it at the target's positions; a silent one is left out.

    On a GPU one source stands at a time: the one whose outside the target has, and of another the block that is called.
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
    """The blocks of `source` as they are called where `home` is around them: a target may have other positions and words."""
    with _positions_of(home, source), room_for([source], [], tokens_BT.device):
        return Stack(source, tokens_BT.clamp(max=embedding_rows(source) - 1))


@contextmanager
def _positions_of(home: PreTrainedModel, model: PreTrainedModel) -> Iterator[None]:
    """What stands beside the blocks of `model` and has no weights (rotary positions) is that of `home` meanwhile."""
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
    """None, or the first position at which two logits differ by more than the tolerance (relative)."""
    scale = max(1.0, wanted_BTV.abs().max().item())
    apart_BT = (seen_BTV.float() - wanted_BTV.float()).abs().amax(dim=-1) / scale
    wrong = (~(apart_BT <= tolerance)).nonzero().tolist()
    if not wrong:
        return None
    row, position = wrong[0]
    return f"Logits differ by {apart_BT[row, position]:.2g}, first at position {position} of sequence {row}."
