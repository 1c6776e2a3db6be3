"""How a cut looks to readers that count layers (llama.cpp): they derive a layer's kind from its number, and read no list of kinds."""

from typing import Any

from transformers import PretrainedConfig

from inheritune.decoder.anatomy import depth_of, text_config
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.names import COUNTED_BY_LLAMA_CPP, INDEX_LISTS, NOT_BY_LAYER

_BY_LLAMA_CPP = ("layer_types", "no_rope_layers")
Kinds = list[Any]


def miscounted(source: PretrainedConfig, cut: PretrainedConfig) -> str | None:
    """Say in one sentence what readers that count layers misread in the config of a cut, and which blocks of `source` avoid that.

    None where they read the same as transformers, or where the family has no rule by number.
    """
    rules = _counted(source)
    for name, (told, counted) in _rules(cut).items():
        if told == counted or name not in rules:
            continue
        at = next(place for place, pair in enumerate(zip(told, counted, strict=True)) if pair[0] != pair[1])
        return (
            f"{name} says {told[at]} of layer {at}, which is {counted[at]} by this family's count: plain transformers reads"
            f" the list, but {_reader(source)} computes another model{_avoided(source, rules, depth_of(cut))}"
        )
    return None


def foreseen(source: PretrainedConfig) -> str | None:
    """The same warning for cuts of `source` in general, before blocks are chosen; None where the family has no rule by number."""
    rules = _counted(source)
    if not rules:
        return None
    period = _period(rules)
    allowed = f" otherwise than in whole runs of {period}" if period else ""
    return (
        f"the kinds of the reference's layers go by number ({' and '.join(rules)}): of a target that leaves out"
        f" blocks{allowed}, plain transformers computes what is meant, and {_reader(source)} computes another model"
    )


def _counted(source: PretrainedConfig) -> dict[str, Kinds]:
    """The lists by layer of a source that some reader may derive from layer numbers, as the family's rule gives them.

    Where the source itself departs from that rule, no counting reader could read it, except llama.cpp, which then misreads it.
    """
    known = _known(source)
    return {
        name: counted
        for name, (told, counted) in _rules(source).items()
        if any(kind != counted[0] for kind in counted) and (told == counted or (known and name in _BY_LLAMA_CPP))
    }


def _rules(config: PretrainedConfig) -> dict[str, tuple[Kinds, Kinds]]:
    """For each list by layer, what the config says, and what its class fills in where it does not: the family's rule by number."""
    plain, depth = text_config(config), depth_of(config)
    told = plain.to_dict()
    lists = {
        name: list(value)
        for name, value in told.items()
        if name not in NOT_BY_LAYER | INDEX_LISTS and isinstance(value, list | tuple) and len(value) == depth
    }
    try:
        made = type(plain).from_dict({name: value for name, value in told.items() if name not in lists})
    except Exception:  # a class may require the list, or be a model's own code: then it has no rule
        return {}
    found = {name: getattr(made, name, None) for name in lists}
    return {
        name: (lists[name], list(value))
        for name, value in found.items()
        if isinstance(value, list | tuple) and len(value) == depth
    }


def _known(config: PretrainedConfig) -> bool:
    return text_config(config).model_type in COUNTED_BY_LLAMA_CPP


def _reader(config: PretrainedConfig) -> str:
    return "llama.cpp counts layers and" if _known(config) else "a reader that counts layers"


def _avoided(source: PretrainedConfig, rules: dict[str, Kinds], depth: int) -> str:
    first = _rules(cut_config(source, range(depth)))
    ways = [f"leave out blocks in whole runs of {period}"] if (period := _period(rules)) else []
    ways += [f"keep the first {depth}"] if all(first[name][0] == first[name][1] for name in rules) else []
    return f"; to be read alike, {' or '.join(ways)}" if ways else ""


def _period(rules: dict[str, Kinds]) -> int | None:
    """The period, in layers, with which all kinds repeat, if it fits at least twice into the depth; else None."""
    kinds = list(zip(*rules.values(), strict=True))
    for period in range(1, len(kinds) // 2 + 1):
        if all(one == other for one, other in zip(kinds, kinds[period:], strict=False)):
            return period
    return None
