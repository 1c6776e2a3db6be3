"""The record of target and reference on texts beside the validation documents, as a whole and by position."""

from inheritune.records.entry import Count, Entry
from inheritune.records.gap import GapResult


class OutsidePlace(Entry):
    """Losses at positions `first` to `last` (from 0) of a text's documents."""

    first: Count
    last: Count
    tokens: Count
    reference_loss: float
    target_loss: float
    gap: GapResult


class OutsideText(OutsidePlace):
    """Target and reference on a text that is not the run's own: as a whole, and by position."""

    name: str
    documents: Count
    by_position: list[OutsidePlace]
