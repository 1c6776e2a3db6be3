"""Control: the target's shape from random weights."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from inheritune.blocks.modules import fresh


def start(reference: PreTrainedModel, blocks: Sequence[int], seed: int) -> PreTrainedModel:
    """As deep as `blocks`, initialised as the architecture itself does it."""
    return fresh(reference, len(blocks), seed)
