"""Block influence: 1 minus the cosine between what enters a block and what leaves it (ShortGPT)."""

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import FULL_SEARCH, Ordering, Search, by_score
from inheritune.report.profile import Profile


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH) -> Ordering:
    """Remove the blocks that turn the hidden state least first."""
    scores = [layer.influence for layer in profile.layers]
    return Ordering(
        "influence",
        "the blocks that turn the hidden state least (block influence) are left out first; no loss of a cut was asked, which may order them otherwise",
        profile.depth,
        by_score(scores),
    )
