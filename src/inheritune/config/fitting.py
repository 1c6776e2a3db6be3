"""Fit the values that nobody set to those that the user set, so that a default never makes a recipe invalid."""

from collections.abc import Container, Iterable
from typing import Any

from inheritune.config.sections import Data, Diagnosis, Section, Training

Tree = dict[str, Any]


def set_in(tree: Tree) -> set[str]:
    """The dotted keys that a recipe's tree sets: its sections, and the keys within them."""
    inside = (f"{key}.{name}" for key, section in tree.items() if isinstance(section, dict) for name in section)
    return {*tree, *inside}


def fitted(tree: Tree, by_hand: Iterable[str], before: Tree) -> Tree:
    """A recipe's tree, in which what is not set `by_hand` (dotted keys) fits what is; `before` is the tree without what is.

    Nothing changes that fits as it is. What is no number stays, for the check to refuse.
    """
    values, hand = _Numbers(tree), set(by_hand)
    tokens, batch, length, size, warmup = (values[key] or 0 for key in _FITTED)
    if min(tokens, batch, length, size) < 1:
        return tree
    if (most := values["limits.max_tokens"]) and "training.tokens" not in hand:
        tokens = min(tokens, most)
    if "data.sequence_length" not in hand:
        length = min(length, tokens)
        if "training.batch_tokens" in hand:
            length = next((shorter for shorter in range(min(length, batch), 1, -1) if batch % shorter == 0), length)
    if "training.batch_tokens" not in hand:
        least = size if "training.micro_batch_size" in hand else 1
        batch = max(least, min(batch, tokens) // length) * length
    size = max(1, min(size, batch // length))
    if warmup >= tokens:
        warmup = warmup * tokens // max(_Numbers(before)["training.tokens"] or 0, warmup + 1)
    found = dict(zip(_FITTED, (tokens, batch, length, size, warmup), strict=True))
    return values.changed({key: value for key, value in found.items() if key not in hand})


def within_positions(tree: Tree, positions: int, by_hand: Iterable[str], known: Container[str]) -> Tree:
    """Return the tree with sequence lengths reduced to a model's number of `positions`, where they are not set `by_hand`.

    Only `known` keys are set: not every kind of recipe has all lengths.
    """
    values, free = _Numbers(tree), {"data.sequence_length", "diagnosis.length"} - set(by_hand)
    shorter = values.changed({key: min(values[key] or positions, positions) for key in free if key in known})
    return fitted(shorter, by_hand, tree)


class _Numbers:
    """The integers of a tree by their dotted keys; keys that are not there have their defaults."""

    def __init__(self, tree: Tree):
        self.tree = tree

    def __getitem__(self, key: str) -> int | None:
        section, name = key.split(".")
        held = self.tree.get(section)
        field = _SECTIONS[section].model_fields.get(name) if section in _SECTIONS else None
        default = field.default if field else None
        value = held.get(name, default) if isinstance(held, dict) else default
        return value if type(value) is int else None

    def changed(self, values: dict[str, int]) -> Tree:
        """Return a copy of the tree with these values. A value that stays the same is not written into it."""
        found = {key: dict(value) if isinstance(value, dict) else value for key, value in self.tree.items()}
        for key, value in values.items():
            if self[key] is not None and self[key] != value:
                section, name = key.split(".")
                found.setdefault(section, {})[name] = value
        return found


_FITTED = (
    "training.tokens", "training.batch_tokens", "data.sequence_length", "training.micro_batch_size", "training.warmup_tokens",
)  # fmt: skip
_SECTIONS: dict[str, type[Section]] = {"data": Data, "training": Training, "diagnosis": Diagnosis}
