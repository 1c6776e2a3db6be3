"""The paper's start: chosen blocks of the reference, and everything outside the blocks."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from inheritune.blocks.modules import inherit


def start(reference: PreTrainedModel, blocks: Sequence[int], seed: int) -> PreTrainedModel:
    """A target made of the reference's `blocks` (paper, Algorithm 1)."""
    return inherit(reference, list(blocks), seed=seed)
