"""How much validation text it takes to detect a difference, from a gap measured on the text at hand."""

from statistics import NormalDist

from inheritune.evidence.gap import Gap

DIFFERENCE = 0.005  # nats per token
_CHANCE = 0.8


def tokens_needed(found: Gap, tokens: int, confidence: float, difference: float = DIFFERENCE) -> int:
    """Validation tokens that detect `difference` (nats per token) with 80% power, at this two-sided `confidence`.

    `found` is a gap measured on `tokens` tokens with an interval of that confidence: its error shrinks with the square root
    of the text's size, if further text is of the same kind. Raises ValueError for a `difference` that is not above 0.
    """
    if not difference > 0:
        raise ValueError(f"the difference to see is {difference}: it must be above 0")
    at_both_ends = NormalDist().inv_cdf((1 + confidence) / 2)
    error = (found.high - found.low) / 2 / at_both_ends
    return round(tokens * ((at_both_ends + NormalDist().inv_cdf(_CHANCE)) * error / difference) ** 2)
