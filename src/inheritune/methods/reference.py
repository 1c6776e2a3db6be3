"""Control: the whole reference, trained on. It tells a good target from more training or a nearer domain."""

import copy
from collections.abc import Sequence

from transformers import PreTrainedModel


def start(reference: PreTrainedModel, blocks: Sequence[int], seed: int) -> PreTrainedModel:
    """The reference itself; `blocks` is not read."""
    return copy.deepcopy(reference)
