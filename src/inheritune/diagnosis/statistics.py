"""Means over sequences, and how sure they are."""

import math

import torch
from torch import Tensor

_Z95 = 1.959964
_MOST_FREEDOM = 1001  # from here on Student's t is as good as normal


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean along the first axis; 0 where there is a single value."""
    if len(values) < 2:
        return torch.zeros_like(values[0], dtype=torch.float64)
    return values.double().std(0) / len(values) ** 0.5


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of a 1-D tensor and its standard error."""
    return values.double().mean().item(), standard_error(values).item()


def probability_below(mean: float, error: float, bound: float, count: int) -> float:
    """The probability that the true mean of whole numbers is at most `bound`, by Student's t, to six digits; 0.5 for a single one.

    The standard error is taken as at least 1 / `count`, its value if one of the numbers differed by one: that `count` sequences
    agree does not mean that all do.
    """
    if count < 2:
        return 0.5
    return round(_student_below((bound - mean) / max(error, 1 / count), count - 1), 6)


def _student_below(t: float, freedom: int) -> float:
    """The probability that Student's t is at most this, for whole degrees of freedom (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    freedom = min(freedom, _MOST_FREEDOM)
    angle = math.atan(t / math.sqrt(freedom))
    odd, cosine = freedom % 2, math.cos(angle)
    term = total = cosine if odd else 1.0
    for power in range(2 + odd, freedom - 1, 2):
        term *= cosine**2 * (power - 1) / power
        total += term
    total *= math.sin(angle) * (freedom > 1)
    return min(1.0, max(0.0, 0.5 + ((angle + total) / math.pi if odd else total / 2)))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share."""
    share, z2 = successes / trials, _Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
