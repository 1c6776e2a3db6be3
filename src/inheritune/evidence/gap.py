"""Is the target as good as the reference? Losses paired by document, with an interval and a margin declared beforehand."""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Verdict = Literal["surpassed", "matched", "worse", "cannot tell"]

# Effective number of clusters from which the plain standard error and the jackknife's agree.
_MANY = 50
# With fewer books or files, an interval is reported to rest on few sources.
FEW_SOURCES = 10


@dataclass(frozen=True)
class Gap:
    """Target minus reference in nats per token: mean, two-sided interval, and what it says about the margin."""

    mean: float
    low: float
    high: float
    verdict: Verdict

    @property
    def matched(self) -> bool:
        """Whether the whole interval lies below the margin."""
        return self.verdict in ("surpassed", "matched")

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}] ({self.verdict})"


def gap(
    target_losses: ArrayLike,
    reference_losses: ArrayLike,
    tokens: ArrayLike | None = None,
    documents: ArrayLike | None = None,
    margin: float = 0.01,
    confidence: float = 0.95,
) -> Gap:
    """The gap between a target and its reference, over the same units of validation text.

    `target_losses` and `reference_losses`: mean loss of each unit in nats per token. `tokens`: each unit's weight
    (default: equal). `documents`: the cluster each unit belongs to, within which units resemble each other: its document,
    or the book or file that the document is a section of (default: each unit its own). The interval is that of a ratio
    of sums over clusters; few or very unequal clusters are jackknifed, with their effective degrees of freedom. Raises
    ValueError for unequal lengths, fewer than two clusters, losses that are not finite, or weights that are not positive.
    """
    target, reference = np.asarray(target_losses, float), np.asarray(reference_losses, float)
    weights = np.ones(target.shape) if tokens is None else np.asarray(tokens, float)
    owners = np.arange(len(target)) if documents is None else np.unique(np.asarray(documents), return_inverse=True)[1]
    _check(target, reference, weights, owners)
    differences = target - reference
    mean = float(np.average(differences, weights=weights))
    residuals = np.bincount(owners, weights=weights * (differences - mean))
    error, freedom = _error(residuals, np.bincount(owners, weights=weights))
    reach = _student(confidence, freedom) * error
    return Gap(mean, mean - reach, mean + reach, _verdict(mean - reach, mean + reach, margin))


def clusters(sources: ArrayLike) -> np.ndarray:
    """The cluster of each unit in an interval: its source (a book or a file), or itself where all come from one."""
    found = np.asarray(sources)
    return found if len(np.unique(found)) > 1 else np.arange(len(found))


def _error(residuals: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """The standard error of a weighted mean and its degrees of freedom, from each cluster's residual sum and weight."""
    count, total = len(weights), float(weights.sum())
    effective = total**2 / float(np.sum(weights**2))
    if effective >= _MANY:
        return float(np.sqrt(count / (count - 1) * np.sum(residuals**2))) / total, count - 1
    left_out = residuals / (total - weights)
    return float(np.sqrt((count - 1) / count * np.sum(left_out**2))), max(1.0, effective - 1)


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if high < 0:
        return "surpassed"
    if high < margin:
        return "matched"
    return "worse" if low > margin else "cannot tell"


def _check(target: np.ndarray, reference: np.ndarray, weights: np.ndarray, owners: np.ndarray) -> None:
    if not target.shape == reference.shape == weights.shape == owners.shape or target.ndim != 1:
        raise ValueError("losses, tokens and documents must be one row each, of equal length")
    if len(np.unique(owners)) < 2:
        raise ValueError("an interval needs at least two documents")
    if not (np.isfinite(target).all() and np.isfinite(reference).all()):
        raise ValueError("a loss is not finite")
    if not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ValueError("each unit's tokens must be above 0")


def _student(confidence: float, freedom: float) -> float:
    """Two-sided quantile of Student's t: Hill's expansion, below five degrees of freedom the density's own integral.

    Up to 99 % confidence its relative error is below 0.1 %.
    """
    if freedom < 5:
        return _heavy_tailed(confidence, freedom)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _heavy_tailed(confidence: float, freedom: float) -> float:
    """Student's t quantile by integrating its density.

    With t = sqrt(freedom) / tan(angle) the density is sin(angle) ** (freedom - 1), from the far tail at 0 to the middle.
    """
    angles = np.pi / 2 * np.linspace(0, 1, 4001) ** 3
    density = np.sin(angles) ** (freedom - 1)
    steps = (density[1:] + density[:-1]) / 2 * np.diff(angles)
    beyond = np.append(0.0, np.cumsum(steps)) / steps.sum()
    return float(np.sqrt(freedom) / np.tan(np.interp(1 - confidence, beyond, angles)))
