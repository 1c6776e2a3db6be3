"""Where will this run end? Its evaluations so far, the learning rate still to come, and a curve to lean on where there is one.

A loss at step `s` is taken as a floor, a power law in `s`, what the learning rate still costs (in proportion to it),
a slow drift, and noise. All but the exponent and the sizes of drift and noise are linear with Gaussian priors; those three
are summed over a grid by their evidence, so that few points give a wide interval instead of a bold line.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Rate = Callable[[int], float] | ArrayLike
Normal = tuple[float, float]
Prior = tuple[Normal, Normal]  # mean and deviation, in nats: the power law's part, what a peak rate costs

# Shapes: N evaluations, M steps asked about.
_POWERS = (0.1, 0.2, 0.3, 0.45, 0.65, 0.9, 1.3)
_NOISES = (0.001, 0.002, 0.004, 0.007, 0.011, 0.016, 0.025, 0.05)
_DRIFTS = (0.0003, 0.003, 0.01, 0.03, 0.1)  # per root of log step
_EARLIEST = 0.05  # of the last step: what lies before it says nothing of the end
_MOST_POINTS = 150
_TO_80_PER_CENT = 1.2816
_OWN: tuple[Normal, Normal] = (
    (0.15, 1.0),
    (0.15, 0.06),
)  # mean and deviation: the power law's part, a peak rate's cost
_GUESSED: tuple[Normal, Normal] = ((0.15, 1.0), (0.15, 0.08))  # where the schedule is not known
_BETWEEN: Prior = ((0.0, 0.3), (0.0, 0.03))  # of two runs' difference


@dataclass(frozen=True)
class Forecast:
    """A loss in nats per token: its mean and 80% interval."""

    mean: float
    low: float
    high: float

    @property
    def reach(self) -> float:
        """Half the interval's width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.mean:+.3f} ± {self.reach:.3f}"


class _Curve(NamedTuple):
    steps: np.ndarray
    losses: np.ndarray


def forecast(
    steps: ArrayLike,
    losses: ArrayLike,
    end: float,
    reference: tuple[ArrayLike, ArrayLike] | None = None,
    rate: Rate | None = None,
    prior: Prior | None = None,
) -> Forecast:
    """The loss at step `end` of a run, from its evaluations `losses` (nats per token) at `steps` so far.

    `rate` gives the learning rate at a step, past and to come: a function, a pair `(steps, rates)`, or a row with one rate
    a step; without it, a cosine from the start down to zero at `end` is taken. `reference` is another run's whole curve
    `(steps, losses)` on the same schedule: the difference at equal steps is then forecast too, and the two answers are
    weighed by their precision. `prior` is what is thought beforehand of the power law's part and of the peak rate's cost
    (mean and deviation of each), where that is less than in a run from random weights. An `end` that is
    past gives the curve there without its noise. Raises ValueError for rows of unequal length, no finite evaluation after
    step 0, or an `end` that is not above 0.
    """
    curve = _checked(steps, losses, end)
    last = max(float(end), curve.steps[-1])
    rates = _rates(rate, last)
    thought = prior or (_OWN if rate is not None else _GUESSED)
    own = _fit(curve, np.array([end], float), rates, thought)
    if reference is None:
        return _interval(own[0][0], own[1][0])
    other = _checked(*reference, end)
    asked = np.append(curve.steps, float(end))
    mean_M, deviation_M = _fit(other, asked, _rates(rate, max(last, other.steps[-1])), thought)
    between = ((0.0, prior[0][1]), (0.0, prior[1][1])) if prior else _BETWEEN
    apart = _fit(_Curve(curve.steps, curve.losses - mean_M[:-1]), asked[-1:], rates, between)
    return _weighed(own[0][0], own[1][0], apart[0][0] + mean_M[-1], float(np.hypot(apart[1][0], deviation_M[-1])))


def _checked(steps: ArrayLike, losses: ArrayLike, end: float) -> _Curve:
    step_N, loss_N = np.asarray(steps, float), np.asarray(losses, float)
    if step_N.shape != loss_N.shape or step_N.ndim != 1:
        raise ValueError("steps and losses must be one row each, of equal length")
    if not end > 0:
        raise ValueError(f"end is {end}: it must be above 0")
    kept = np.isfinite(step_N) & np.isfinite(loss_N) & (step_N > 0)
    if not kept.any():
        raise ValueError("a forecast needs at least one finite loss at a step above 0")
    order = np.argsort(step_N[kept], kind="stable")
    step_N, loss_N = step_N[kept][order], loss_N[kept][order]
    late = step_N > _EARLIEST * step_N[-1]
    return _thinned(_Curve(step_N[late], _calmed(loss_N[late])))


def _calmed(loss_N: np.ndarray) -> np.ndarray:
    """Lonely spikes drawn in to three deviations from the median of their neighbours."""
    if len(loss_N) < 7:
        return loss_N
    padded = np.pad(loss_N, 2, mode="reflect", reflect_type="odd")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    off = loss_N - middle
    reach = 3 * 1.4826 * max(float(np.median(np.abs(off))), 1e-4) * 1.3
    return middle + np.clip(off, -reach, reach)


def _thinned(curve: _Curve) -> _Curve:
    """At most `_MOST_POINTS` points, each the mean of its neighbours."""
    parts = np.array_split(np.arange(len(curve.steps)), min(len(curve.steps), _MOST_POINTS))
    return _Curve(*(np.array([row[part].mean() for part in parts]) for row in curve))


def _rates(rate: Rate | None, last: float) -> Callable[[np.ndarray], np.ndarray]:
    """The learning rate at steps, as a share of its peak."""
    if rate is None:
        return lambda step_M: (1 + np.cos(np.pi * np.clip(step_M / last, 0, 1))) / 2
    if callable(rate):
        known = np.unique(np.linspace(0, last, 400).round())
        value = np.array([rate(int(step)) for step in known], float)
    else:
        table: Any = np.atleast_2d(np.asarray(rate, float))
        known, value = table if len(table) == 2 else (np.arange(table.size), table[0])
    peak = float(value.max()) or 1.0
    return lambda step_M: np.interp(step_M, known, value / peak)


def _fit(
    curve: _Curve, asked_M: np.ndarray, rates: Callable[[np.ndarray], np.ndarray], prior: tuple[Normal, Normal]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of the loss at the steps `asked_M`, summed over the grid by evidence."""
    now = curve.steps[-1]
    log_N, log_M = np.log(curve.steps / now), np.log(np.maximum(asked_M, 1e-9) / now)
    drift_NN, drift_MN, drift_M = _drift(log_N, log_N), _drift(log_M, log_N), np.abs(log_M)
    centre = np.array([curve.losses[-1], prior[0][0], prior[1][0]])
    spread = np.diag([1.0, prior[0][1] ** 2, prior[1][1] ** 2])
    found = []
    for power in _POWERS:
        at_N3 = _features(log_N, rates(curve.steps), power)
        at_M3 = _features(log_M, rates(asked_M), power)
        plain_NN, plain_MN = at_N3 @ spread @ at_N3.T, at_M3 @ spread @ at_N3.T
        plain_M, off_N = np.einsum("mi,ij,mj->m", at_M3, spread, at_M3), curve.losses - at_N3 @ centre
        for noise, drift in product(_NOISES, _DRIFTS):
            root = np.linalg.cholesky(plain_NN + drift**2 * drift_NN + noise**2 * np.eye(len(off_N)))
            cross_NM = np.linalg.solve(root, (plain_MN + drift**2 * drift_MN).T)
            scaled_N = np.linalg.solve(root, off_N)
            evidence = -scaled_N @ scaled_N / 2 - np.log(np.diag(root)).sum() + _likely(power, noise, drift)
            variance_M = plain_M + drift**2 * drift_M - np.sum(cross_NM**2, axis=0)
            found.append((evidence, at_M3 @ centre + cross_NM.T @ scaled_N, variance_M))
    return _summed(found)


def _features(log_M: np.ndarray, rate_M: np.ndarray, power: float) -> np.ndarray:
    return np.stack([np.ones_like(log_M), np.exp(-power * log_M) - 1, rate_M], axis=1)


def _drift(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Covariance of a random walk in log step that starts at the last evaluation and goes both ways."""
    same = np.sign(one)[:, None] * np.sign(two)[None] > 0
    return np.where(same, np.minimum(np.abs(one)[:, None], np.abs(two)[None]), 0.0)


def _likely(power: float, noise: float, drift: float) -> float:
    """Log of the grid's prior, log-normal in each."""
    pairs = ((power, 0.35, 0.7), (noise, 0.008, 1.2), (drift, 0.01, 1.5))
    return -sum((np.log(value / middle) / width) ** 2 for value, middle, width in pairs) / 2


def _summed(found: list[tuple[float, np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    evidence, mean, variance = (np.array(part) for part in zip(*found, strict=True))
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    middle_M = weight @ mean
    return middle_M, np.sqrt(np.maximum(weight @ (variance + (mean - middle_M) ** 2), 0))


def _weighed(one: float, error: float, two: float, other: float) -> Forecast:
    """Two answers from the same evaluations: weighed by precision, and no more certain than they are on average."""
    share = other**2 / (error**2 + other**2)
    mean = share * one + (1 - share) * two
    variance = share * (error**2 + (one - mean) ** 2) + (1 - share) * (other**2 + (two - mean) ** 2)
    return _interval(mean, float(np.sqrt(variance)))


def _interval(mean: float, deviation: float) -> Forecast:
    reach = _TO_80_PER_CENT * float(deviation)
    return Forecast(float(mean), float(mean) - reach, float(mean) + reach)
