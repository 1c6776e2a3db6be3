"""Describe a recipe's keys, and explain its errors in one sentence: the key, the value, and what would be right."""

import difflib
from collections.abc import Container, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from inheritune.errors import RecipeError

_REMEDIES = {
    "int_type": "write a whole number, as in 10_000_000",
    "float_type": "write a number, as in 1.0e-4",
    "finite_number": "write a finite number",
    "too_short": "give at least one",
    "model_type": "write a mapping of keys to values there",
    "dict_type": "write a mapping of names of your own, as in {mine: value}",
    "bool_type": "write true or false",
    "string_type": "write text, in quotes where it looks like something else",
    "string_pattern_mismatch": "write letters, digits and .+-_ alone, at most 100",
}

_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", list: "list", dict: "mapping"}
# The keys that tell a recipe's kind, in the order in which they are tried: a comparison has a `reference` too.
_KINDS = {"methods": "compare", "reference": "run", "model": "train"}


def explain(error: ValidationError, valid: Sequence[str], others: Mapping[str, Container[str]]) -> str:
    """Return the first error as a sentence. `valid` are this recipe's keys, `others` those of the other kinds of recipe, by command."""
    first = _first(error)
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)[:100]
    if first["type"] == "extra_forbidden":
        kinds = [kind for kind, keys in others.items() if key in keys]
        hint = (
            f"it belongs to recipes of {' and '.join(f'`{kind}`' for kind in kinds)}" if kinds else nearest(key, valid)
        )
        return f"the recipe has an unknown key {key!r}: {hint}"
    if first["type"] == "missing":
        return f"the recipe lacks {key!r}, which it needs (`inheritune config` describes it)"
    reason = first["msg"].removeprefix("Value error, ")
    if not location or first["type"] == "value_error":
        return f"the recipe contradicts itself{f' in {key!r}' if key else ''}: {reason}"
    said = _REMEDIES.get(first["type"], (reason[0].lower() + reason[1:]).replace("input should", "it should"))
    return f"the recipe's {key!r} is {repr(first['input'])[:100]}: {said}"


def _first(error: ValidationError) -> Any:
    """The error to report. Where a key is missing, an unknown key in the same section comes first: it is the missing one misspelt."""
    first, *others = error.errors()
    beside = (e for e in others if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1])
    return next(beside, first) if first["type"] == "missing" else first


def nearest(key: str, valid: Sequence[str]) -> str:
    """A hint at the key that was probably meant: the same name in another section, else one that is spelt alike."""
    same = [name for name in valid if name.split(".")[-1] == key.split(".")[-1]]
    near = same or difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "`inheritune config` lists the valid ones"


def refuse_other_kind(kind: type[BaseModel], keys: Container[str], name: str) -> None:
    """Raise RecipeError if the `keys` of the recipe `name` show that it is of another kind than `kind`."""
    wanted = kind.__name__.removesuffix("Recipe").lower()
    key = next((key for key in _KINDS if key in keys), None)
    if key and wanted in _KINDS.values() and (found := _KINDS[key]) != wanted:
        needed = next(key for key, own in _KINDS.items() if own == wanted)
        lacks = "" if needed in keys else f", which has {needed!r}"
        raise RecipeError(
            f"{name!r} has {key!r}, so it is a recipe of `{found}`, not of `{wanted}`{lacks}:"
            f" inheritune {found} {name}, or inheritune config {found} --recipe {name}"
        )


def fields(kind: type[BaseModel], prefix: str = "") -> dict[str, tuple[str, str, str]]:
    """Every dotted key of a recipe: its type, default and description."""
    found: dict[str, tuple[str, str, str]] = {}
    for name, field in kind.model_fields.items():
        if _is_section(field.annotation):
            found |= fields(field.annotation, f"{prefix}{name}.")  # type: ignore[arg-type]
            continue
        default = "required" if field.is_required() else repr(field.default)
        found[prefix + name] = (_type_name(field.annotation), default, field.description or "")
        for entry in filter(_is_section, get_args(field.annotation)):
            found |= fields(entry, f"{prefix}{name}.")
    return found


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _type_name(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(inside[0])
    if origin is Literal:
        return " | ".join(inside)
    if origin in (Union, UnionType):
        return " or ".join(_type_name(each) for each in inside if each is not NoneType)
    return "mapping" if _is_section(annotation) else _TYPES[origin or annotation]
