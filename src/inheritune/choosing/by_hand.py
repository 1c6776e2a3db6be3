"""Blocks and depths that a recipe names itself, checked against the reference before anything is measured."""

from collections.abc import Sequence

from inheritune.config.recipes import RunRecipe
from inheritune.errors import RecipeError
from inheritune.surgery.blockmap import parse


def refuse_depths(recipe: RunRecipe, depth: int) -> None:
    """Raise RecipeError for blocks, a start or an end of growth beyond a reference of this depth, or a start beyond the end."""
    growth = recipe.growth
    for key, value in (("growth.start", growth.start), ("growth.max_depth", growth.max_depth)):
        if value is not None and value > depth:
            raise RecipeError(f"{key} is {value} and the reference has {depth} blocks: make it at most that")
    if growth.start and growth.max_depth and growth.start > growth.max_depth:
        raise RecipeError(
            f"growth.start is {growth.start} and growth.max_depth {growth.max_depth}: start at most there"
        )
    blocks_by_hand(recipe, depth)


def blocks_by_hand(recipe: RunRecipe, depth: int) -> list[int]:
    """The first target's blocks as `choice.blocks` names them, none where it does not; RecipeError for what is no cut."""
    text = recipe.choice.blocks
    if text is None:
        return []
    blocks = parse(text)
    if blocks != sorted(set(blocks)) or blocks[-1] >= depth:
        raise RecipeError(f"choice.blocks is {text!r}: name blocks of 0-{depth - 1}, rising, each once")
    return blocks


def last_to_go(order: Sequence[int], blocks: Sequence[int]) -> tuple[int, ...]:
    """A criterion's order, in which these blocks go after all others."""
    return (*(b for b in order if b not in blocks), *(b for b in order if b in blocks))
