"""What a round's tokens can buy before any cut is measured: depths, gaps and chances, by the same forecast that a run starts with."""

import torch
from transformers import PreTrainedModel

from inheritune.choosing.by_hand import blocks_by_hand, start_by_hand
from inheritune.config.recipes import RunRecipe
from inheritune.config.sections import MOST_TOKENS, Size
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import parameter_count
from inheritune.evidence.left import left_after, likely_after, new_tokens
from inheritune.records.estimate import DepthReach
from inheritune.runs.planning import round_tokens
from inheritune.runs.policy import starting_depth
from inheritune.runs.size import deepest


def reach(recipe: RunRecipe, whole: int, parameters: int, text_tokens: int | None) -> list[DepthReach]:
    """What is expected of each depth below the reference's `whole`, the deepest first, with a training text of `text_tokens`."""
    tokens, margin = new_tokens(round_tokens(recipe), text_tokens), recipe.match.margin
    depths = range(whole - 1, 0, -1)
    likely = {depth: likely_after(1 - depth / whole, tokens, parameters, margin) for depth in depths}
    return [DepthReach(depth=depth, lost=one.lost, gap=one.gap, chance=one.chance) for depth, one in likely.items()]


def starting(recipe: RunRecipe, shape: PreTrainedModel, dtype: torch.dtype, text_tokens: int | None) -> int:
    """The depth that a run starts at: by hand, by size, or where its policy would start if the cuts lost as much as other models' cuts.

    How fast a cut is shows only by running it, so here its speed is taken to be inverse to its parameters.
    """
    growth, tokens = recipe.growth, new_tokens(round_tokens(recipe), text_tokens)
    whole, parameters = anatomy(shape).depth, parameter_count(shape)
    if size := growth.target:
        return deepest(Size(parameters=int(parameters / size.latency)) if size.latency else size, shape, dtype)
    if named := len(blocks_by_hand(recipe, whole)) or start_by_hand(growth, whole):
        return named
    lost = {one.depth: one.lost[1] for one in reach(recipe, whole, parameters, text_tokens)}
    left = {depth: left_after(each, tokens, parameters) for depth, each in lost.items()}
    return starting_depth(left, growth.max_depth or whole - 1, recipe.match.margin)


def tokens_for_even(recipe: RunRecipe, kept: float, parameters: int) -> int | None:
    """Tokens of a round that give a cut with the share `kept` of the blocks an even chance to match; None where no run has as many."""

    def even(tokens: float) -> bool:
        return likely_after(1 - kept, tokens, parameters, recipe.match.margin).chance >= 0.5

    low, high = 1.0, float(MOST_TOKENS)
    if not even(high):
        return None
    while high / low > 1.01:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if even(middle) else (middle, high)
    return round(high)
