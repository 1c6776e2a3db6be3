"""Looking more than once is paid for: each of a run's planned looks spends its share of the error that the run declared."""

from statistics import NormalDist

# Documents' differences have heavier tails than a t interval allows for: at 2.5% it errs in 3% of looks, so not all is spent.
_SPENT = 0.8
_FIRST = 0.75  # of a look's share, where it may read on


def look_confidence(confidence: float, looks: int, reads: int = 0) -> float:
    """The two-sided confidence of each of `looks` planned looks, so that a whole run keeps to `confidence`.

    A match is called by the interval's upper end alone, which errs with half of what the interval leaves out. The run's
    error, 1 - `confidence`, is spent to four fifths, in equal shares (Bonferroni), whatever the looks have in common; one look
    is paid for by the plain interval. A look that may read on, `reads` times, where it cannot tell keeps a quarter of its share
    for that. Raises ValueError for fewer than one look.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks are planned: a match needs at least one")
    return max(confidence, 1 - _left_out(confidence, looks) * (_FIRST if reads else 1))


def reading_confidence(confidence: float, looks: int, reads: int) -> float:
    """The confidence of each of `reads` times that a look which could not tell reads on."""
    return 1 - _left_out(confidence, looks) * (1 - _FIRST) / reads


def reach_left(look: float, reading: float, share: float) -> float:
    """What is left of a look's reach where it has read on: `look` and `reading` are the confidences, `share` the part read first."""
    quantile = NormalDist().inv_cdf
    return share**0.5 * quantile((1 + reading) / 2) / quantile((1 + look) / 2)


def _left_out(confidence: float, looks: int) -> float:
    """What the intervals of one look leave out together, on both sides."""
    return 2 * _SPENT * (1 - confidence) / looks
