"""What kind of block each one is, and whether a cut's blocks are of the kinds that they should be."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from inheritune.blocks.anatomy import anatomy
from inheritune.errors import ModelError

NOT_KIND = frozenset({"layer_idx", "training", "layer_number", "layer_id", "block_idx", "call_super_init"})
Kind = dict[str, Any]


def kind_of(block: nn.Module) -> Kind:
    """Everything that sets a block apart but its weights: classes, shapes, numbers and flags, by name."""
    kind: Kind = {}
    for name, module in block.named_modules():
        kind[name] = type(module).__name__
        own = {key: tuple(value.shape) for key, value in module.named_parameters(recurse=False)}
        plain = {key: value for key, value in vars(module).items() if _plain(key, value)}
        kind |= {f"{name}.{key}".lstrip("."): value for key, value in {**plain, **own}.items()}
    return kind


def _plain(key: str, value: Any) -> bool:
    if key.startswith("_") or key in NOT_KIND:
        return False
    return isinstance(value, bool | int | float | str) or value is None


def first_difference(made: nn.Module, meant: nn.Module) -> str | None:
    """The first thing in which two blocks differ in kind, in words; None if they are of one kind."""
    seen, wanted = kind_of(made), kind_of(meant)
    for name in [*wanted, *seen]:
        if seen.get(name, "absent") != wanted.get(name, "absent"):
            return f"{name or 'the block'} is {seen.get(name, 'absent')} and not {wanted.get(name, 'absent')}"
    return None
