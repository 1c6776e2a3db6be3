"""Means over sequences, and how sure they are."""

import math

import torch
from torch import Tensor

_Z95 = 1.959964


def standard_error(values: Tensor) -> Tensor:
    """Standard error of the mean along the first axis; 0 where there is a single value."""
    if len(values) < 2:
        return torch.zeros_like(values[0], dtype=torch.float64)
    return values.double().std(0) / len(values) ** 0.5


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of a 1-D tensor and its standard error."""
    return values.double().mean().item(), standard_error(values).item()


def probability_below(mean: float, error: float, bound: float) -> float:
    """How sure it is that the true mean is at most `bound`, if the sample mean is normal with that standard error."""
    if error == 0:
        return float(mean <= bound)
    return 0.5 * math.erfc((mean - bound) / (error * math.sqrt(2)))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95% Wilson interval of a share."""
    share, z2 = successes / trials, _Z95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
