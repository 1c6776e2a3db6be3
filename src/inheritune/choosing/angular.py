"""Angular distance: remove one run of adjacent blocks, grown from where the hidden state turns least (Gromov et al.)."""

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import FULL_SEARCH, Ordering, Search
from inheritune.report.profile import Profile


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH) -> Ordering:
    """Remove the block of least angular distance first, then extend the run to the side where the distance stays smaller."""
    depth, distances = profile.depth, profile.angular
    first = last = min(range(depth), key=lambda block: distances[0][block])
    gone = [first]
    while len(gone) < depth:
        length = last - first + 1
        down = distances[length][first - 1] if first > 0 else float("inf")
        up = distances[length][first] if last < depth - 1 else float("inf")
        first, last = (first - 1, last) if down < up else (first, last + 1)
        gone.append(first if down < up else last)
    reason = "one run of blocks is left out, where the hidden state turns least (angular distance); no loss of a cut was asked, which may choose others"
    return Ordering("angular", reason, depth, tuple(gone))
