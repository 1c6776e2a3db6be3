"""The kind of a block, and the check that a target's blocks are of the kinds that they should be.

The rules for per-layer config fields (`layerlists.py`) cover only listed fields; this check needs no list. It compares the
built blocks themselves: classes, shapes, and every plain number, flag and fixed buffer that they hold.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from inheritune.decoder.anatomy import text_config
from inheritune.decoder.names import BY_LAYER, KEEPS_KEYS, NOT_KIND, READS_KEYS
from inheritune.errors import ModelError

# Fields on how a config was made, not on its model.
NOT_CONFIG = frozenset({"_name_or_path", "architectures", "dtype", "transformers_version"})
# The config's field that holds the window of layers of a kind.
WINDOW_FIELDS = {
    "sliding_attention": "sliding_window",
    "chunked_attention": "attention_chunk_size",
    "local": "window_size",
}
BlockKind = dict[str, Any]


def kind_of(block: nn.Module) -> BlockKind:
    """Everything that distinguishes a block, except its weights, by name."""
    kind: BlockKind = {}
    for name, module in block.named_modules():
        kind[name] = type(module).__name__
        saved = set(module.state_dict(keep_vars=True))
        own: BlockKind = {key: tuple(value.shape) for key, value in module.named_parameters(recurse=False)}
        own |= {key: value for key, value in module.named_buffers(recurse=False) if key not in saved}
        own |= {key: value for key, value in vars(module).items() if _plain(key, value)}
        kind |= {f"{name}.{key}".lstrip("."): value for key, value in own.items()}
    return kind


def window_at(config: PretrainedConfig, index: int) -> int | None:
    """The attention window of block `index`: how many tokens a query sees, its own included; None where it sees all."""
    plain = text_config(config)
    kinds = getattr(plain, "layer_types", None) or getattr(plain, "attention_layers", None)
    window = getattr(plain, WINDOW_FIELDS.get(kinds[index] if kinds else "sliding_attention", ""), None)
    return window if type(window) is int else None


def _plain(key: str, value: Any) -> bool:
    if key.startswith("_") or key in NOT_KIND:
        return False
    return isinstance(value, bool | int | float | str)


def first_difference(made: nn.Module, meant: nn.Module, known: frozenset[str] = frozenset()) -> str | None:
    """The first thing in which two blocks differ in kind, in words; None if they are of one kind."""
    seen, wanted = kind_of(made), kind_of(meant)
    for name in [*wanted, *seen]:
        one, other = seen.get(name, "absent"), wanted.get(name, "absent")
        if name not in known and not _same(one, other):
            return f"its {name or 'class'} is {_brief(one)} and not {_brief(other)}"
    return None


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and (one.is_meta or other.is_meta or torch.equal(one, other.to(one)))
    return type(one) is type(other) and one == other


def _brief(value: Any) -> Any:
    return f"a buffer of {tuple(value.shape)}" if isinstance(value, Tensor) else value


def require_kinds(
    made: Iterable[nn.Module], meant: Iterable[nn.Module], configs: Sequence[PretrainedConfig], known: frozenset[str]
) -> None:
    """Raise ModelError where a block of the target is not of the kind of the block that it repeats.

    `configs` are its sources'; `known` names what may differ because it is folded into the weights.
    """
    made = list(made)
    known |= _kept_for_nobody(made)
    for place, (one, other) in enumerate(zip(made, meant, strict=True)):
        if difference := first_difference(one, other, known):
            raise ModelError(
                f"Cannot cut {configs[-1].model_type!r} so: block {place} would not be what it was, "
                f"{difference}; look at {_suspects(configs)} in its config."
            )


def _kept_for_nobody(blocks: Sequence[nn.Module]) -> frozenset[str]:
    """Names of the flags by which blocks keep their keys for later blocks, if none of these blocks reads such keys."""
    held = [(name, module) for block in blocks for name, module in block.named_modules()]
    if any(getattr(module, READS_KEYS, False) for _, module in held):
        return frozenset()
    return frozenset(f"{name}.{KEEPS_KEYS}" for name, module in held if hasattr(module, KEEPS_KEYS))


def _suspects(configs: Sequence[PretrainedConfig]) -> str:
    """The fields in which the sources' configs differ, or else those by layer."""
    first, last = (text_config(config).to_dict() for config in (configs[0], configs[-1]))
    names = [name for name, value in last.items() if BY_LAYER.search(name) and value is not None]
    apart = [name for name in last if name not in names and first.get(name) != last[name] and name not in NOT_CONFIG]
    return ", ".join(sorted(set(apart or names))[:6]) or "the fields by layer"
