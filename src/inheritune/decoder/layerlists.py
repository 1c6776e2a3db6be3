"""The config fields that are indexed by layer follow the blocks: by rule, with exceptions by name.

A list as long as the depth follows the blocks item by item. For a pattern (every second layer, the first three), values are searched
that give every place the kind of its block; where there are none, an error names the pattern's fields.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from transformers import PretrainedConfig

from inheritune.decoder.anatomy import depth_field, depth_of, text_config
from inheritune.decoder.names import (
    CYCLES,
    FROM_BLOCK,
    FURTHER,
    INDEX_LISTS,
    LAST_BLOCKS,
    NOT_BY_LAYER,
    PERIODS,
    RUNS,
    RUNS_BY_LAYER,
    SLIDING_FROM,
    SPARSE_SPAN,
    SPARSE_STEP,
)
from inheritune.errors import ModelError

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Pattern:
    """Fields that together determine the kind of block i, as `kind(values, i, depth)`; `others(values, kinds)` are values to try."""

    fields: tuple[str, ...]
    kind: Callable[[Values, int, int], Any]
    others: Callable[[Values, list[Any]], Iterable[Values]]


def _thresholds(values: Values, kinds: list[Any]) -> Iterator[Values]:
    yield from ((count,) for count in range(len(kinds) + 1))


def _periods(values: Values, kinds: list[Any]) -> Iterator[Values]:
    yield from ((period, offset) for period in range(1, len(kinds) + 2) for offset in range(period))


def _steps(values: Values, kinds: list[Any]) -> Iterator[Values]:
    yield 1, [place for place, dense in enumerate(kinds) if dense]


def _spans(values: Values, kinds: list[Any]) -> Iterator[Values]:
    sparse = [place for place, kind in enumerate(kinds) if kind] or [len(kinds)]
    yield from product(range(1, len(kinds) + 1), [sparse[0]], [sparse[-1]])


PATTERNS = (
    *(Pattern((name,), lambda values, i, depth: i >= values[0], _thresholds) for name in FROM_BLOCK),
    Pattern(LAST_BLOCKS, lambda values, i, depth: i >= depth - values[0], _thresholds),
    *(Pattern(names, lambda values, i, depth: i % values[0] == values[1], _periods) for names in PERIODS),
    Pattern(
        SPARSE_STEP,
        lambda values, i, depth: i in (values[1] or []) or (i + 1) % values[0] != 0,
        _steps,
    ),
    Pattern(
        SPARSE_SPAN,
        lambda values, i, depth: (i + 1) % values[0] == 0 and values[1] <= i and (i <= values[2] or values[2] == -1),
        _spans,
    ),
)


def cut_config(
    config: PretrainedConfig, blocks: Sequence[int], base: PretrainedConfig | None = None
) -> PretrainedConfig:
    """A copy of `base` (None: of `config`) for a target whose place i repeats the kind of `config`'s block `blocks[i]`.

    Fields by layer come from `config`, all others from `base`: a target that grows keeps its positions and its vocabulary.
    Raises ModelError, naming the field, for a pattern by index that these blocks cannot keep.
    """
    cut = copy.deepcopy(base or config)
    for name in FURTHER:
        if getattr(text_config(cut), name, None):
            setattr(text_config(cut), name, 0)  # multi-token-prediction layers are not loaded, so they are not kept
    if base in (None, config) and list(blocks) == list(range(depth_of(config))):
        return cut
    values, new = _by_layer(config, blocks), text_config(cut)
    if getattr(new, "is_heterogeneous", False):
        return _rebuilt(cut, values)
    for name, value in values.items():
        setattr(new, name, value)
    if getattr(new, "use_sliding_window", False) and hasattr(new, SLIDING_FROM):
        _say_from_where(new)
    if hasattr(new, RUNS):
        setattr(new, RUNS, [[[kind], 1] for kind in getattr(new, RUNS_BY_LAYER)])
    return cut


def _say_from_where(config: PretrainedConfig) -> None:
    """Set the block from which on attention is sliding to agree with the list of kinds, where there is such a block."""
    kinds = getattr(config, "layer_types", None) or []
    full = kinds.index("sliding_attention") if "sliding_attention" in kinds else len(kinds)
    if kinds and set(kinds[full:]) <= {"sliding_attention"}:
        setattr(config, SLIDING_FROM, full)


def _by_layer(config: PretrainedConfig, blocks: Sequence[int]) -> dict[str, Any]:
    """The config's fields by layer, as a target with these blocks has them."""
    depth, old = depth_of(config), text_config(config)
    values: dict[str, Any] = {depth_field(config): len(blocks)}
    raw, apart = old.to_dict(), getattr(old, "is_heterogeneous", False)
    for name, kept in raw.items():
        value = kept if apart else getattr(old, name, None)
        if isinstance(value, list | tuple | str) and name not in NOT_BY_LAYER:
            followed = _follow(name, value, depth, blocks)
            values |= {} if followed is value else {name: followed}
    for pattern in PATTERNS:
        if all(getattr(old, name, None) is not None for name in pattern.fields):
            values |= zip(pattern.fields, _searched(pattern, old, depth, blocks), strict=True)
    if apart:
        own = {int(index): fields for index, fields in raw["per_layer_config"].items()}
        values["per_layer_config"] = {place: own[block] for place, block in enumerate(blocks) if block in own}
    return values


def _rebuilt(config: PretrainedConfig, values: dict[str, Any]) -> PretrainedConfig:
    """Make a config with settings for single layers (`per_layer_config`, by index) anew: it cannot be changed in place."""
    old = text_config(config)
    made = type(old).from_dict({**old.to_dict(), **values})
    if old is config:
        return made
    setattr(config, next(name for name, own in vars(config).items() if own is old), made)
    return config


def _follow(name: str, value: Any, depth: int, blocks: Sequence[int]) -> Any:
    if isinstance(value, str):
        by_layer = name.endswith("_pattern") and len(value) == depth
        return "".join(value[block] for block in blocks) if by_layer else value
    if name in INDEX_LISTS:
        return [place for place, block in enumerate(blocks) if block in value]
    if name in CYCLES:
        return [value[block % len(value)] for block in blocks]
    return [value[block] for block in blocks] if len(value) == depth else value


def _searched(pattern: Pattern, config: PretrainedConfig, depth: int, blocks: Sequence[int]) -> Values:
    values = tuple(getattr(config, name) for name in pattern.fields)
    kinds = [pattern.kind(values, block, depth) for block in blocks]
    for tried in (values, *pattern.others(values, kinds)):
        if [pattern.kind(tried, place, len(blocks)) for place in range(len(blocks))] == kinds:
            return tried
    fields = " and ".join(pattern.fields)
    raise ModelError(f"No value of {fields} gives these blocks, in this order, the kind that each one has.")
