"""What each block does to the hidden state.

Shapes: B sequences, T tokens, D hidden size, L blocks, S = L + 1 hidden states: before every block and after the last.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def recording(blocks: nn.ModuleList) -> Iterator[list[Tensor]]:
    """Collect the hidden states (B, T, D) of one forward pass: what enters every block, and what leaves the last.

    What leaves the last block is taken before the final norm, which `output_hidden_states` applies.
    """
    states: list[Tensor] = []

    def entering(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        states.append((args[0] if args else kwargs["hidden_states"]).detach().flatten(2))

    def leaving(_block: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        states.append((output[0] if isinstance(output, tuple) else output).detach().flatten(2))

    hooks = [block.register_forward_pre_hook(entering, with_kwargs=True) for block in blocks]
    hooks.append(blocks[-1].register_forward_hook(leaving))
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()


def cosines(states: list[Tensor]) -> Tensor:
    """Cosine between every two hidden states, token by token: (B, T, S, S)."""
    unit_BTSD = torch.nn.functional.normalize(torch.stack(states, 2).float(), dim=-1)
    return (unit_BTSD @ unit_BTSD.mT).clamp(-1, 1)


def block_influence(cosines_BTSS: Tensor) -> Tensor:
    """1 - cosine of what enters a block and what leaves it, mean over tokens: (B, L)."""
    return 1 - cosines_BTSS.diagonal(offset=1, dim1=-2, dim2=-1).mean(1)


def angular_distance(cosines_BTSS: Tensor) -> Tensor:
    """Angle between every two hidden states over pi, mean over tokens: (B, S, S); [i, i + n] is the run of n blocks at i."""
    return cosines_BTSS.arccos().mean(1) / torch.pi
