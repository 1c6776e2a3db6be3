"""Looking more than once is paid for: each of a run's planned looks spends its share of the error that the run declared."""

# Documents' differences have heavier tails than a t interval allows for: at 2.5% it errs in 3% of looks, so not all is spent.
_SPENT = 0.8


def look_confidence(confidence: float, looks: int) -> float:
    """The two-sided confidence of each of `looks` planned looks, so that a whole run keeps to `confidence`.

    A match is called by the interval's upper end alone, which errs with half of what the interval leaves out. The run's
    error, 1 - `confidence`, is spent to four fifths, in equal shares (Bonferroni), whatever the looks have in common; one look
    is paid for by the plain interval. Raises ValueError for fewer than one look.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks are planned: a match needs at least one")
    return max(confidence, 1 - 2 * _SPENT * (1 - confidence) / looks)
