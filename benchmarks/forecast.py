"""Forecasts of where a run ends, beside a power law with bootstrapped residuals, on recorded curves.

    python benchmarks/forecast.py CURVES.csv [--peak 3e-4 --final 1e-5 --warmup 2000]

The file has the columns dataset, model, recipe, layers, step, val_loss; curves of one (dataset, model) share the schedule
(warm-up, then a cosine), and the one whose recipe is `reference` is given as such to the others. Each curve is cut at a
share of its steps and its end forecast; the truth is the mean of its last ten evaluations. Interval score (80%): width,
plus ten times by how much the truth lies outside. "alone" is without rate and reference. Takes about a minute.
"""

import argparse
import csv
from collections.abc import Callable
from math import cos, pi
from pathlib import Path

import numpy as np

from inheritune import forecast

Curve = tuple[np.ndarray, np.ndarray]
SHARES = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)


def read(path: Path) -> dict[tuple[str, ...], Curve]:
    """Curves by (dataset, model, recipe, layers)."""
    rows: dict[tuple[str, ...], list[tuple[float, float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            key = tuple(row[name] for name in ("dataset", "model", "recipe", "layers"))
            rows.setdefault(key, []).append((float(row["step"]), float(row["val_loss"])))
    return {key: (np.array(found)[:, 0], np.array(found)[:, 1]) for key, found in rows.items()}


def cosine(peak: float, final: float, warmup: int, end: float) -> Callable[[int], float]:
    """The schedule of a run that ends at step `end`."""

    def rate(step: int) -> float:
        if step < warmup:
            return peak * step / warmup
        return final + (peak - final) * (1 + cos(pi * (step - warmup) / (end - warmup))) / 2

    return rate


def power_law(steps: np.ndarray, losses: np.ndarray, end: float, times: int = 200) -> tuple[float, float, float]:
    """Floor + factor * step^-power by least squares over a grid of powers; 80% of refits to resampled residuals."""
    kept = steps > 0.05 * steps.max()
    step, loss = steps[kept], losses[kept]
    designs = [np.stack([np.ones_like(step), step**-power], axis=1) for power in np.linspace(0.05, 2, 40)]
    ends = [np.array([1.0, end**-power]) for power in np.linspace(0.05, 2, 40)]
    inverses = [np.linalg.pinv(design) for design in designs]

    def fit(values: np.ndarray) -> tuple[float, np.ndarray]:
        fits = [design @ (inverse @ values) for design, inverse in zip(designs, inverses, strict=True)]
        best = int(np.argmin([np.sum((values - fitted) ** 2) for fitted in fits]))
        return float(ends[best] @ (inverses[best] @ values)), fits[best]

    mean, fitted = fit(loss)
    random, residuals = np.random.default_rng(0), loss - fitted
    drawn = [fit(fitted + random.choice(residuals, len(residuals)))[0] for _ in range(times)]
    return mean, *map(float, np.quantile(drawn, (0.1, 0.9)))


def score(low: float, high: float, truth: float) -> float:
    """The 80% interval score: less is better."""
    return high - low + 10 * max(0.0, low - truth) + 10 * max(0.0, truth - high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--peak", type=float, default=3e-4)
    parser.add_argument("--final", type=float, default=1e-5)
    parser.add_argument("--warmup", type=int, default=2000)
    given = parser.parse_args()
    curves = read(given.curves)
    print("| seen | method | curves | mean error | mean size of the error | largest | inside | interval score |")
    print("|---|---|---|---|---|---|---|---|")
    for share in SHARES:
        found: dict[str, list[tuple[float, float, float, float]]] = {}
        for (dataset, model, recipe, _), (step, loss) in curves.items():
            end, truth, seen = step[-1], loss[-10:].mean(), step <= share * step[-1]
            rate = cosine(given.peak, given.final, given.warmup, end)
            parent = next((c for (d, m, r, _), c in curves.items() if (d, m, r) == (dataset, model, "reference")), None)
            ours = {"alone": {}, "rate": {"rate": rate}}
            if recipe != "reference" and parent is not None:
                ours["rate and reference"] = {"rate": rate, "reference": parent}
            for name, extra in ours.items():
                said = forecast(step[seen], loss[seen], end, **extra)
                found.setdefault(f"forecast, {name}", []).append((said.mean, said.low, said.high, truth))
            found.setdefault("power law", []).append((*power_law(step[seen], loss[seen], end), truth))
        for name, rows in found.items():
            mean, low, high, truth = np.array(rows).T
            scores = [score(*row) for row in zip(low, high, truth, strict=True)]
            inside = int(np.sum((low <= truth) & (truth <= high)))
            print(
                f"| {share:.0%} | {name} | {len(rows)} | {np.mean(mean - truth):+.4f} | {np.mean(abs(mean - truth)):.4f}"
                f" | {np.max(abs(mean - truth)):.4f} | {inside} | {np.mean(scores):.3f} |"
            )


if __name__ == "__main__":
    main()
