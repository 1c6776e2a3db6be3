"""The first n blocks, as the paper inherits them."""

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import FULL_SEARCH, Ordering, Search
from inheritune.report.profile import Profile


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH) -> Ordering:
    """Remove blocks from the top (paper, Algorithm 1)."""
    return Ordering("first", "the first blocks, as in the paper", profile.depth, tuple(reversed(range(profile.depth))))
