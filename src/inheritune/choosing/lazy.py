"""Lazy-aware: remove the layers whose attention collapsed most first."""

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import FULL_SEARCH, Ordering, Search, by_score
from inheritune.records.profile import Layer
from inheritune.report.profile import Profile


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH) -> Ordering:
    """Remove layers by rising MaxRank (paper, section 2). A layer without softmax attention is never called lazy, and goes last."""
    count = len(profile.lazy_layers)
    reason = f"the layers with the lowest attention rank are left out ({count} of {profile.depth} are lazy)"
    return Ordering("lazy", reason, profile.depth, by_score([_rank(layer) for layer in profile.layers]))


def _rank(layer: Layer) -> float:
    return float("inf") if layer.max_rank is None else layer.max_rank
