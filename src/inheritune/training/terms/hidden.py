"""The distance from the teacher's hidden states after its blocks."""

from torch import Tensor, nn

from inheritune.config.sections import Objective


def hidden(ours_BTD: Tensor, theirs_BTD: Tensor, wanted: Objective) -> Tensor:
    """Sum over tokens of 1 - cosine, or of the squared error as a share of the teacher's mean square: width and scale cancel."""
    ours, theirs = ours_BTD.float(), theirs_BTD.float()
    if wanted.hidden_loss == "cosine":
        return (1 - nn.functional.cosine_similarity(ours, theirs, dim=-1)).sum()
    return ((ours - theirs).square().mean(-1) / theirs.square().mean()).sum()
