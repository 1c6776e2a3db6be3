"""Looks into a running decoder: what its blocks receive and give, and what it says when they are rearranged."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.blocks.anatomy import anatomy

# Shapes: B sequences, T tokens, D hidden width, V vocabulary.


class _Enough(Exception):
    """Ends a forward pass once what was asked for is known."""


def hidden_of(output: Any) -> Tensor:
    """A block's hidden state: blocks return it alone or first in a tuple."""
    return output[0] if isinstance(output, tuple) else output


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any], before: bool = False) -> Iterator[None]:
    """Calls `hook` at each pass through `module`, after it or `before` it, with its keyword arguments."""
    register = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = register(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def hidden_after(model: PreTrainedModel, block: int, tokens_BT: Tensor) -> Tensor:
    """The hidden state (B, T, D) after a block; the blocks above it are not run."""
    held: list[Tensor] = []

    def stop(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        held.append(hidden_of(output))
        raise _Enough

    with hooked(anatomy(model).blocks[block], stop):
        try:
            model(tokens_BT, use_cache=False)
        except _Enough:
            pass
    return held[0]


@torch.no_grad()
def rearranged_logits(model: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor) -> Tensor:
    """The logits (B, T, V) of `model` if its blocks stood as listed, each called as the model itself calls it.

    No module is moved: one pass records how each block is called, then the blocks run in the listed order, and
    the last block's output is replaced by the result. `range(n)` gives the model's own early exit after n blocks.
    """
    stack = anatomy(model).blocks
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    recorders = [block.register_forward_pre_hook(_record(calls), with_kwargs=True) for block in stack]
    model(tokens_BT, use_cache=False)
    for recorder in recorders:
        recorder.remove()
    hidden_BTD = _first(calls[0])
    for block in blocks:
        hidden_BTD = hidden_of(_call(stack[block], calls[block], hidden_BTD))

    def replace(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        return (hidden_BTD, *output[1:]) if isinstance(output, tuple) else hidden_BTD

    with hooked(stack[-1], replace):
        return model(tokens_BT, use_cache=False).logits


def _record(calls: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> Callable[..., None]:
    return lambda module, args, kwargs: calls.append((args, kwargs))


def _first(call: tuple[tuple[Any, ...], dict[str, Any]]) -> Tensor:
    args, kwargs = call
    return args[0] if args else kwargs["hidden_states"]


def _call(block: nn.Module, call: tuple[tuple[Any, ...], dict[str, Any]], hidden_BTD: Tensor) -> Any:
    args, kwargs = call
    if args:
        return block(hidden_BTD, *args[1:], **kwargs)
    return block(**{**kwargs, "hidden_states": hidden_BTD})
