"""Forecast a run's final loss from its evaluations so far, the learning rate still to come, and another run's curve if there is one.

The loss at step `s` is modelled as a floor, a power law in `s`, a cost of the learning rate at that step (proportional to a power
of it), a slow drift, and noise. All but the two exponents and the sizes of drift and noise are linear with Gaussian priors; those
four are summed over a grid, weighted by their evidence, so that few points give a wide interval instead of a bold line. The priors
are wide: the fall of the rate has gained 0.03 to 0.5 nats, and a run's own curve says little about that before the rate falls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Rate = Callable[[int], float] | ArrayLike
Normal = tuple[float, float]  # mean and deviation, in nats


class _Prior(NamedTuple):
    """Priors of the power law's part and of the cost of the peak learning rate; the latter one for each kind of run, with its weight."""

    fall: Normal
    costs: tuple[tuple[Normal, float], ...]


# Shapes: N evaluations, M steps asked about, G grid points, P those of the exponents, Q those of noise and drift.
_POWERS = (0.15, 0.4, 0.9)
_BENDS = (0.6, 0.8, 1.0)  # exponents of the rate: below 1, the last part of its fall gains the most
_NOISES = (0.002, 0.005, 0.01, 0.02, 0.04)
_DRIFTS = (0.0005, 0.004, 0.02)  # per root of log step
_EARLIEST = 0.05  # share of the last step: evaluations before it say nothing about the end
_MOST_POINTS = 48
_OWN = _Prior((0.1, 0.5), (((0.11, 0.07), 0.9), ((0.35, 0.15), 0.1)))
_BETWEEN = _Prior((0.0, 0.3), (((0.0, 0.05), 1.0),))  # for the difference of two runs
_NODES = [NormalDist().inv_cdf((node + 0.5) / 32) for node in range(32)]


@dataclass(frozen=True)
class Forecast:
    """A forecast loss in nats per token: its mean and interval (80% by default)."""

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


class _Mixture(NamedTuple):
    """Normal distributions of the loss at M steps, shape (G, M), and the weight of each grid point."""

    weight: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def forecast(
    steps: ArrayLike,
    losses: ArrayLike,
    end: float,
    reference: tuple[ArrayLike, ArrayLike] | None = None,
    rate: Rate | None = None,
    confidence: float = 0.8,
) -> Forecast:
    """Forecast the loss of a run at step `end` from its evaluations `losses` (nats per token) at `steps` so far.

    `rate` gives the learning rate at a step, past and to come: a function, a pair `(steps, rates)`, or a row with one rate
    per step; the default is a cosine from the start down to zero at `end`. `reference` is another run's whole curve
    `(steps, losses)` on the same schedule: the difference at equal steps is then forecast too, and the two forecasts are
    weighted by their precision. `confidence` is that of the interval. An `end` in the past gives the curve there without its
    noise. Raises ValueError for rows of unequal length, no finite evaluation after step 0, or an `end` that is not above 0.
    """
    curve = _checked(steps, losses, end)
    last = max(float(end), curve.steps[-1])
    rates = _rates(rate, last)
    own = _fit(curve, np.array([end], float), rates, _OWN)
    if reference is None:
        return _interval(own, confidence)
    other = _checked(*reference, end)
    asked = np.append(curve.steps, float(end))
    whole = _fit(other, asked, _rates(rate, max(last, other.steps[-1])), _OWN)
    mean_M, deviation_M = _moments(whole)
    apart = _fit(_Curve(curve.steps, curve.losses - mean_M[:-1]), asked[-1:], rates, _BETWEEN)
    there = apart._replace(mean=apart.mean + mean_M[-1], variance=apart.variance + deviation_M[-1] ** 2)
    return _interval(_pooled(own, there), confidence)


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
    """Clip isolated spikes to three deviations from the median of their neighbours."""
    if len(loss_N) < 7:
        return loss_N
    padded = np.pad(loss_N, 2, mode="reflect", reflect_type="odd")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)
    off = loss_N - middle
    reach = 3 * 1.4826 * max(float(np.median(np.abs(off))), 1e-4) * 1.3
    return middle + np.clip(off, -reach, reach)


def _thinned(curve: _Curve) -> _Curve:
    """Reduce a curve to at most `_MOST_POINTS` points, each the mean of neighbouring ones."""
    parts = np.array_split(np.arange(len(curve.steps)), min(len(curve.steps), _MOST_POINTS))
    return _Curve(*(np.array([row[part].mean() for part in parts]) for row in curve))


def _rates(rate: Rate | None, last: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from steps to the learning rate, as a share of its peak."""
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


def _fit(curve: _Curve, asked_M: np.ndarray, rates: Callable[[np.ndarray], np.ndarray], prior: _Prior) -> _Mixture:
    """The loss at the steps `asked_M` for each point of the grid, weighted by evidence."""
    now = curve.steps[-1]
    log_N, log_M = np.log(curve.steps / now), np.log(np.maximum(asked_M, 1e-9) / now)
    noise_Q, drift_Q = np.array(list(product(_NOISES, _DRIFTS))).T
    drift_QNN, drift_QMN = (drift_Q[:, None, None] ** 2 * _drift(log, log_N) for log in (log_N, log_M))
    own_QNN = drift_QNN + noise_Q[:, None, None] ** 2 * np.eye(len(log_N))
    own_QM = drift_Q[:, None] ** 2 * np.abs(log_M)
    found = []
    for power, bend, (cost, share) in product(_POWERS, _BENDS, prior.costs):
        at_N3 = _features(log_N, rates(curve.steps), power, bend)
        at_M3 = _features(log_M, rates(asked_M), power, bend)
        centre_3 = np.array([curve.losses[-1] - cost[0] * at_N3[-1, 2], prior.fall[0], cost[0]])
        spread_3 = np.array([1.0, prior.fall[1], cost[1]]) ** 2
        root_QNN = np.linalg.cholesky(own_QNN + at_N3 * spread_3 @ at_N3.T)
        cross_QNM = np.linalg.solve(root_QNN, (drift_QMN + at_M3 * spread_3 @ at_N3.T).swapaxes(1, 2))
        scaled_QN = np.linalg.solve(root_QNN, (curve.losses - at_N3 @ centre_3)[None, :, None])[..., 0]
        evidence_Q = -np.sum(scaled_QN**2, axis=1) / 2 - np.log(np.diagonal(root_QNN, axis1=1, axis2=2)).sum(axis=1)
        mean_QM = at_M3 @ centre_3 + np.einsum("qnm,qn->qm", cross_QNM, scaled_QN)
        variance_QM = own_QM + np.sum(at_M3**2 * spread_3, axis=1) - np.sum(cross_QNM**2, axis=1)
        found.append((evidence_Q + _likely(power, noise_Q, drift_Q) + np.log(share), mean_QM, variance_QM))
    evidence_G, mean_GM, variance_GM = (np.concatenate(part) for part in zip(*found, strict=True))
    weight_G = np.exp(evidence_G - evidence_G.max())
    return _Mixture(weight_G / weight_G.sum(), mean_GM, np.maximum(variance_GM, 0))


def _features(log_M: np.ndarray, rate_M: np.ndarray, power: float, bend: float) -> np.ndarray:
    return np.stack([np.ones_like(log_M), np.exp(-power * log_M) - 1, np.maximum(rate_M, 0) ** bend], axis=1)


def _drift(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Covariance of a random walk in log step that starts at the last evaluation and goes both ways."""
    same = np.sign(one)[:, None] * np.sign(two)[None] > 0
    return np.where(same, np.minimum(np.abs(one)[:, None], np.abs(two)[None]), 0.0)


def _likely(power: float, noise_Q: np.ndarray, drift_Q: np.ndarray) -> np.ndarray:
    """Log of the prior over the grid, log-normal in the power, the noise and the drift."""
    off = np.log(power / 0.35) / 0.7, np.log(noise_Q / 0.008) / 1.2, np.log(drift_Q / 0.005) / 1.5
    return -(off[0] ** 2 + off[1] ** 2 + off[2] ** 2) / 2


def _moments(mixture: _Mixture) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a mixture at each step."""
    mean_M = mixture.weight @ mixture.mean
    return mean_M, np.sqrt(mixture.weight @ (mixture.variance + (mixture.mean - mean_M) ** 2))


def _pooled(one: _Mixture, two: _Mixture) -> _Mixture:
    """Mix two forecasts from the same evaluations, weighted by precision; the mixture is no more certain than they are on average."""
    (error,), (other,) = _moments(one)[1], _moments(two)[1]
    share = other**2 / (error**2 + other**2)
    weight = np.append(share * one.weight, (1 - share) * two.weight)
    return _Mixture(weight, np.concatenate([one.mean, two.mean]), np.concatenate([one.variance, two.variance]))


def _interval(mixture: _Mixture, confidence: float) -> Forecast:
    """The mean of a mixture at one step, and the interval that leaves out an equal share on both sides."""
    value_GK = mixture.mean + np.sqrt(mixture.variance) * _NODES
    order = np.argsort(value_GK, axis=None)
    below = np.cumsum(np.repeat(mixture.weight / len(_NODES), len(_NODES))[order])
    low, high = np.interp([(1 - confidence) / 2, (1 + confidence) / 2], below, value_GK.ravel()[order])
    return Forecast(float(_moments(mixture)[0][0]), float(low), float(high))
