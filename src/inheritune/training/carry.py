"""Carries a block map out on an optimizer's state, by parameter name."""

from collections.abc import Sequence

from torch import Tensor

from inheritune.blocks.blockmap import grown

State = dict[str, dict[str, Tensor]]


def carry(state: State, held: Sequence[int], wanted: Sequence[int], path: str) -> State:
    """The state of a target that holds reference blocks `held`, renamed for one that holds `wanted`.

    `path` is where the blocks stand in the model ("transformer.h"). Blocks that are new have no state, and
    start with a fresh one; everything outside the blocks keeps its own.
    """
    block_map = grown(held, wanted)
    return {name: own for old, own in state.items() for name in block_map.targets(old, path)}
