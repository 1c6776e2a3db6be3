"""How good forecasts of a round's final loss are, and which rounds the policy ends because of them: simulated rounds and recorded curves.

    python benchmarks/forecast.py [CURVES ...] [--rounds 150]

CURVES are CSV files with the columns dataset, model, recipe, layers, step, val_loss, or folders of the logs that the paper's public
code left (lines "step N: train loss X, val loss Y"); all of them have a warm-up of 2,000 steps and a cosine to a thirtieth of the peak.
A simulated round is the sum of a power law, of what the learning rate still costs (0.02 to 0.2 nats at its peak), and of noise (0.003
to 0.025), under a cosine, a linear decay or a late one (wsd), with 5 to 100 looks. The true end of a recorded curve is the mean of its
last ten evaluations; "every tenth" is the same curve with one in ten of its looks.

Forecasts: 80% intervals from the looks up to a share of the round. "alone" knows neither the learning rate nor the reference's curve;
the peer is a power law with bootstrapped residuals. The interval score is the width plus ten times the distance by which the truth lies
outside. Ended: the policy's own decisions at a margin of 0.01, with a gap known to within 0.004 and each round shifted so that its true
end lies at the gap in the table's head. Takes some ten minutes on one core.
"""

import argparse
import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import cos, pi
from pathlib import Path

import numpy as np

from inheritune import forecast
from inheritune.evidence.gap import Gap
from inheritune.runs import policy
from inheritune.runs.actions import Grow, History, Plan, Seen, Stop

SHARES = (0.1, 0.3, 0.45, 0.6, 0.8)
MARGIN, REACH = 0.01, 0.004
ENDS = (0.0, MARGIN - REACH, 0.03, 0.1, 0.3)
LOG = re.compile(r"step (\d+): train loss [\d.]+, val loss ([\d.]+)")
REFERENCES = ("reference", "medium_log", "large_log", "vanilla2", "val_full")


@dataclass(frozen=True)
class Curve:
    """The looks of a round whose loss ends at `truth`; `kind` is its row in the tables, curves of one `family` share a reference."""

    kind: str
    steps: np.ndarray
    losses: np.ndarray
    end: int
    rate: Callable[[float], float]
    truth: float
    family: str = ""
    reference: bool = False

    def cut(self, share: float) -> tuple[np.ndarray, np.ndarray]:
        """The steps and losses of the looks up to a share of the round, at least one."""
        seen = max(1, int(np.sum(self.steps <= share * self.end)))
        return self.steps[:seen], self.losses[:seen]


def cosine(end: float, warmup: float, final: float) -> Callable[[float], float]:
    """A linear warm-up, then a cosine down to a share `final` of the peak."""

    def rate(step: float) -> float:
        if step < warmup:
            return step / warmup
        return final + (1 - final) * (1 + cos(pi * (step - warmup) / (end - warmup))) / 2

    return rate


def straight(end: float, warmup: float, begin: float) -> Callable[[float], float]:
    """A linear warm-up, then the peak, then a linear fall to zero from step `begin` on."""
    return lambda step: step / warmup if step < warmup else min(1.0, (end - step) / (end - begin))


def simulated(random: np.random.Generator, kind: str) -> Curve:
    """A made-up round whose true end is 0."""
    looks, warmup = int(random.choice([5, 10, 20, 50, 100])), random.uniform(0.01, 0.05)
    end = 20 * looks
    final, fall = random.choice([0, 1 / 30, 0.1]), random.choice([0.1, 0.2, 0.3])
    rate = {
        "cosine": cosine(end, warmup * end, final),
        "linear": straight(end, warmup * end, warmup * end),
        "wsd": straight(end, warmup * end, (1 - fall) * end),
    }[kind]
    cost, noise, part = (
        np.exp(random.uniform(*np.log(low_high))) for low_high in ((0.02, 0.2), (0.003, 0.025), (0.01, 0.15))
    )
    steps = 20.0 * np.arange(1, looks + 1)
    clean = part * ((steps / end) ** -random.uniform(0.15, 1) - 1) + cost * np.array(
        [rate(s) - rate(end) for s in steps]
    )
    return Curve(kind, steps, clean + random.normal(0, noise, looks), end, rate, 0.0)


def recorded(paths: list[Path]) -> Iterator[Curve]:
    """The curves of CSV files and of folders of logs."""
    for path in paths:
        logs = sorted(path.rglob("*.txt")) if path.is_dir() else []
        found = {str(log): dict(LOG.findall(log.read_text(errors="ignore"))) for log in logs} or _of_csv(path)
        for name, rows in found.items():
            steps = np.array(sorted(float(step) for step in rows if float(step) > 0))
            if len(steps) < 20:
                continue
            losses = np.array([float(rows[f"{step:.0f}"]) for step in steps])
            size = re.search(r"xlarge|large|medium", name)
            family = f"{path} {'fineweb' if 'Fineweb' in name else ''} {size.group() if size else ''} {steps[-1]:.0f}"
            is_reference = any(name.removesuffix(".txt").endswith(end) for end in REFERENCES)
            rate = cosine(steps[-1], 2000, 1 / 30)
            yield Curve(str(path.name), steps, losses, int(steps[-1]), rate, losses[-10:].mean(), family, is_reference)


def _of_csv(path: Path) -> dict[str, dict[str, str]]:
    rows: dict[str, dict[str, str]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            name = " ".join(row[key] for key in ("dataset", "model", "layers", "recipe"))
            rows.setdefault(name, {})[f"{float(row['step']):.0f}"] = row["val_loss"]
    return rows


def power_law(steps: np.ndarray, losses: np.ndarray, end: float, times: int = 200) -> tuple[float, float, float]:
    """Floor + factor * step^-power at `end`, by least squares over a grid of powers; its 80% interval, by refits to resampled residuals."""
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


def said_of(
    curve: Curve, share: float, references: dict[str, Curve]
) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Each method's name and its forecast of a curve's end: mean, low and high."""
    steps, losses = curve.cut(share)
    own = {"alone": {}, "rate": {"rate": curve.rate}}
    if not curve.reference and (other := references.get(curve.family)):
        own["rate and reference"] = {"rate": curve.rate, "reference": (other.steps, other.losses)}
    for name, extra in own.items():
        found = forecast(steps, losses, curve.end, **extra)
        yield f"forecast, {name}", (found.mean, found.low, found.high)
    yield "power law", power_law(steps, losses, curve.end)


def told(kind: str, share: float, name: str, rows: list[tuple[float, float, float, float]]) -> None:
    mean, low, high, truth = np.array(rows).T
    error, inside = mean - truth, (low <= truth) & (truth <= high)
    score = high - low + 10 * np.maximum(0, low - truth) + 10 * np.maximum(0, truth - high)
    print(
        f"| {kind} | {share:.0%} | {name} | {len(rows)} | {error.mean():+.4f} | {abs(error).mean():.4f} | {inside.mean():.0%}"
        f" | {score.mean():.3f} |",
        flush=True,
    )


def forecasts(curves: list[Curve]) -> None:
    """Print the errors and the coverage of the forecasts."""
    print("| curves | seen | method | number | mean error | mean size of the error | inside 80% | interval score |")
    print("|---|---|---|---|---|---|---|---|")
    references = {curve.family: curve for curve in curves if curve.reference}
    for kind in dict.fromkeys(curve.kind for curve in curves):
        for share in SHARES:
            found: dict[str, list[tuple[float, float, float, float]]] = {}
            for curve in (curve for curve in curves if curve.kind == kind):
                for name, said in said_of(curve, share, references):
                    found.setdefault(name, []).append((*said, curve.truth))
            for name, rows in found.items():
                told(kind, share, name, rows)


def remember_forecasts() -> None:
    """Make the policy compute each forecast only once: shifted rounds ask for the same one at every gap."""
    known, plain = {}, policy.forecast

    def remembered(steps: list[int], losses: list[float], end: float, **extra: object) -> object:
        key = (tuple(steps), tuple(losses), end, extra.get("confidence"))
        if key not in known:
            known[key] = plain(steps, losses, end, **extra)
        return known[key]

    policy.forecast = remembered


def ended_at(curve: Curve, gap: float) -> float:
    """The share of a round after which the policy ends it if its true end lies at `gap`; 1 if it runs to its end."""
    falls = [step for step in range(curve.end) if curve.rate(step) >= 0.999 * curve.rate(curve.end // 2)]
    decay = curve.end - falls[-1] if curve.kind == "wsd" else 0
    plan = Plan(1, 1, 9, MARGIN - gap, curve.end, 1, 9, literal=False, rate=lambda step, _: curve.rate(step))
    plan = replace(plan, decay_steps=decay)
    off = curve.losses - curve.truth
    looks = [
        Seen(int(step), curve.end, Gap(loss, loss - REACH, loss + REACH, "cannot tell"), 0.0)
        for step, loss in zip(curve.steps, off, strict=True)
    ]
    for number in range(1, len(looks)):
        if isinstance(policy.next_action(History(1, True, (), tuple(looks[:number])), plan), Grow | Stop):
            return looks[number - 1].step / curve.end
    return 1.0


def ended(curves: list[Curve]) -> None:
    """Print how many rounds the policy ends and how much of them it trains, by the gap at their true end."""
    print("| rounds | number | " + " | ".join(f"true gap {gap:+.3f}: ended, trained" for gap in ENDS) + " |")
    print("|---|---|" + "---|" * len(ENDS))
    for kind in dict.fromkeys(curve.kind for curve in curves):
        ours = [curve for curve in curves if curve.kind == kind]
        shares = np.array([[ended_at(curve, gap) for gap in ENDS] for curve in ours])
        cells = (f"{np.mean(row < 1):.1%}, {row.mean():.0%}" for row in shares.T)
        print(f"| {kind} | {len(ours)} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path, nargs="*")
    parser.add_argument("--rounds", type=int, default=150)
    given = parser.parse_args()
    random = np.random.default_rng(0)
    curves = [simulated(random, kind) for kind in ("cosine", "linear", "wsd") for _ in range(given.rounds)]
    for curve in recorded(given.curves):
        sparse = replace(curve, kind=f"{curve.kind}, every tenth", steps=curve.steps[9::10], losses=curve.losses[9::10])
        curves += [curve, sparse]
    curves.sort(key=lambda curve: curve.kind)
    remember_forecasts()
    ended(curves)
    print()
    forecasts(curves)


if __name__ == "__main__":
    main()
