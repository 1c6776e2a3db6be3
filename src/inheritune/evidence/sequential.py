"""Correct for looking more than once: each planned look at the gap spends its share of the error that the run declared."""

from statistics import NormalDist

# Documents' differences have heavier tails than a t interval allows for: at 2.5% it errs in 3% of looks, so not all is spent.
_SPENT = 0.8
_FIRST = 0.75  # of a look's share, for its first reading if it may read on


def look_confidence(confidence: float, looks: int, reads: int = 0) -> float:
    """The two-sided confidence of each of `looks` planned looks, so that a whole run keeps to `confidence`.

    A match is declared by the interval's upper end alone, which errs with half of what the interval leaves out. Four fifths of
    the run's error, 1 - `confidence`, are spent in equal shares (Bonferroni), which holds however the looks depend on each
    other; a single look needs the plain interval only. A look that cannot tell and may then read on, `reads` times, keeps a
    quarter of its share for that. Raises ValueError for fewer than one look.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks are planned: a match needs at least one")
    return max(confidence, 1 - _left_out(confidence, looks) * (_FIRST if reads else 1))


def reading_confidence(confidence: float, looks: int, reads: int) -> float:
    """The two-sided confidence of each of the `reads` further readings of a look that could not tell."""
    return 1 - _left_out(confidence, looks) * (1 - _FIRST) / reads


def reach_left(look: float, reading: float, share: float) -> float:
    """The width of a look's interval after reading on, over that before: `look` and `reading` are confidences, `share` was read first."""
    quantile = NormalDist().inv_cdf
    return share**0.5 * quantile((1 + reading) / 2) / quantile((1 + look) / 2)


def _left_out(confidence: float, looks: int) -> float:
    """The probability that the intervals of one look leave out together, on both sides."""
    return 2 * _SPENT * (1 - confidence) / looks
