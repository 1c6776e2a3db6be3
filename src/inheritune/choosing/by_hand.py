"""Blocks and depths that a recipe names itself, checked against the reference before anything is measured."""

from collections.abc import Sequence

from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import Growth
from inheritune.errors import ModelError, RecipeError
from inheritune.surgery.blockmap import parse
from inheritune.words import plural


def refuse_depths(recipe: RunRecipe, depth: int) -> None:
    """Raise RecipeError if blocks or depths of the recipe do not exist in a reference of this depth, or the start lies above the end; ModelError for a single block."""
    growth = recipe.growth
    if depth < 2:
        raise ModelError(
            f"the reference {recipe.reference!r} has {plural(depth, 'block')}: a target has at least one less"
        )
    for key, value in (("growth.start", growth.start), ("growth.max_depth", growth.max_depth)):
        if value is not None and value > depth:
            raise RecipeError(f"{key} is {value} and the reference has {depth} blocks: make it at most that")
    blocks = blocks_by_hand(recipe, depth)
    first, key = (len(blocks), "choice.blocks names") if blocks else (growth.start or 1, "growth.start is")
    if first > (growth.max_depth or depth - 1):
        told = (
            f"growth.max_depth {growth.max_depth}"
            if growth.max_depth
            else f"growth.max_depth is not given, so {depth - 1}"
        )
        raise RecipeError(f"{key} {first} and {told}: start at most there")


def start_by_hand(growth: Growth, depth: int) -> int | None:
    """The starting depth that a recipe fixes: `growth.start`, or half of the reference's `depth` in the paper's loop; else None."""
    return growth.start or (depth // 2 if growth.literal else None)


def blocks_by_hand(recipe: RunRecipe, depth: int) -> list[int]:
    """The first target's blocks, as named by `choice.blocks`; empty if it names none.

    Raises RecipeError unless they rise and are all below `depth`.
    """
    text = recipe.choice.blocks
    if text is None:
        return []
    blocks = parse(text)
    if blocks != sorted(set(blocks)) or blocks[-1] >= depth:
        raise RecipeError(f"choice.blocks is {text!r}: name blocks of 0-{depth - 1}, rising, each once")
    return blocks


def last_to_go(order: Sequence[int], blocks: Sequence[int]) -> tuple[int, ...]:
    """Return a criterion's order of removal with these blocks moved behind all others."""
    return (*(b for b in order if b not in blocks), *(b for b in order if b in blocks))
