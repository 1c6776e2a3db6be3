"""Looking more than once is paid for: each of a run's planned looks spends its share of the error that the run declared."""


def look_confidence(confidence: float, looks: int) -> float:
    """The two-sided confidence of each of `looks` planned looks, so that a whole run keeps to `confidence`.

    A match is called by the interval's upper end alone, which errs with half of what the interval leaves out. The run's
    error, 1 - `confidence`, is spent in equal shares (Bonferroni), whatever the looks have in common; two looks are paid
    for by the plain interval. Raises ValueError for fewer than one look.
    """
    if looks < 1:
        raise ValueError(f"{looks} looks are planned: a match needs at least one")
    return max(confidence, 1 - 2 * (1 - confidence) / looks)
