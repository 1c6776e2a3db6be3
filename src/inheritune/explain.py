"""A recipe's errors in one sentence: the key, the value, and what would be right."""

import difflib
from collections.abc import Sequence

from pydantic import ValidationError

_REMEDIES = {
    "int_type": "write a whole number, as in 10_000_000",
    "float_type": "write a number, as in 1.0e-4",
    "finite_number": "write a finite number",
    "bool_type": "write true or false",
    "string_type": "write text, in quotes where it looks like something else",
    "string_pattern_mismatch": "write letters, digits and .+-_ alone, at most 100",
}


def explain(error: ValidationError, valid: Sequence[str]) -> str:
    """What is wrong first; `valid` are the keys that there are."""
    first = error.errors()[0]
    location = [str(part) for part in first["loc"]]
    key = ".".join(location)[:100]
    if first["type"] == "extra_forbidden":
        hint = nearest(key, valid)
        return f"the recipe has an unknown key {key!r}: {hint}"
    if first["type"] == "missing":
        return f"the recipe lacks {key!r}, which it needs (`inheritune config` describes it)"
    reason = first["msg"].removeprefix("Value error, ")
    if not location or first["type"] == "value_error":
        return f"the recipe contradicts itself{f' in {key!r}' if key else ''}: {reason}"
    said = _REMEDIES.get(first["type"], reason[0].lower() + reason[1:])
    return f"the recipe's {key!r} is {repr(first['input'])[:100]}: {said}"


def nearest(key: str, valid: Sequence[str]) -> str:
    """The key that was probably meant: the same name elsewhere, else one that is spelt alike."""
    same = [name for name in valid if name.split(".")[-1] == key.split(".")[-1]]
    near = same or difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "`inheritune config` lists the valid ones"
