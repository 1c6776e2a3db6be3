"""What is left of a cut's loss after a round: the law of `evidence.left` fitted to recorded rounds, and judged on references it has not seen.

    python benchmarks/left.py

A row of ROUNDS is one of this project's own rounds (docs/results, docs/growth.md, and trials before them), with a learning rate that
decayed to its end: the reference, its parameters, the blocks kept, what the cut loses untrained, the round's tokens, and the gap to
the reference as it was. Rounds of one reference are not independent: each is weighted by one over the root of their number, and the
law is judged by leaving out one reference at a time. It is compared with the earlier rule: a tenth of the loss is left, whatever the
round. Takes about a minute.
"""

import math
from typing import NamedTuple

import numpy as np


class Round(NamedTuple):
    """One recorded round."""

    reference: str
    parameters: float
    kept: str
    lost: float
    tokens: float
    gap: float


BUNDLED, BOOKS, A, B, C, SMOL, PAPER = 0.8875e6, 0.45e6, 2.9e6, 2.2e6, 1.46e6, 134.5e6, 0.45e6
ROUNDS = [
    Round("bundled", BUNDLED, "22 of 24", 0.0516, 0.303e6, 0.0269),
    Round("bundled", BUNDLED, "22 of 24", 0.0516, 0.303e6, 0.0183),
    Round("bundled", BUNDLED, "22 of 24", 0.0516, 0.504e6, 0.0126),
    Round("bundled", BUNDLED, "22 of 24", 0.0516, 0.602e6, 0.0192),
    Round("bundled", BUNDLED, "22 of 24", 0.0516, 1.004e6, 0.0009),
    Round("bundled", BUNDLED, "21 of 24", 0.0895, 0.401e6, 0.0316),
    Round("bundled", BUNDLED, "21 of 24", 0.0895, 0.401e6, 0.0247),
    Round("bundled", BUNDLED, "21 of 24", 0.0895, 0.844e6, -0.0004),
    Round("bundled", BUNDLED, "21 of 24", 0.0895, 0.844e6, -0.0026),
    Round("bundled", BUNDLED, "21 of 24", 0.0895, 0.602e6, 0.0042),
    Round("bundled", BUNDLED, "20 of 24", 0.1269, 0.844e6, 0.0055),
    Round("bundled", BUNDLED, "16 of 24", 0.3659, 0.098e6, 0.1695),
    Round("bundled", BUNDLED, "16 of 24", 0.3659, 0.844e6, 0.0470),
    Round("books", BOOKS, "11 of 12", 0.110, 0.401e6, 0.0355),
    Round("books", BOOKS, "11 of 12", 0.109, 0.401e6, 0.0344),
    Round("books", BOOKS, "11 of 12", 0.109, 0.831e6, 0.0118),
    Round("books", BOOKS, "11 of 12", 0.109, 0.831e6, 0.0066),
    Round("books", BOOKS, "10 of 12", 0.231, 0.831e6, 0.0363),
    Round("books", BOOKS, "11 of 12", 0.110, 1.253e6, 0.0016),
    Round("books", BOOKS, "11 of 12", 0.110, 2.253e6, 0.0012),
    Round("12 x 128", A, "6 of 12", 1.36, 1.2e6, 0.148),
    Round("16 x 96", B, "12 of 16", 0.372, 0.82e6, 0.105),
    Round("24 x 64", C, "20 of 24", 0.205, 1.23e6, 0.013),
    Round("24 x 64", C, "16 of 24", 0.582, 1.23e6, 0.0695),
    Round("smollm2", SMOL, "26 of 30", 0.25, 0.0164e6, 0.1012),
    Round("smollm2", SMOL, "20 of 30", 1.9, 0.41e6, 0.624),
    Round("paper-12", PAPER, "11 of 12", 0.083, 0.754e6, 0.0147),
    Round("paper-12", PAPER, "11 of 12", 0.083, 0.754e6, 0.0132),
    Round("paper-12", PAPER, "10 of 12", 0.270, 0.754e6, 0.0355),
    Round("paper-12", PAPER, "8 of 12", 0.721, 0.754e6, 0.0733),
    Round("paper-12", PAPER, "8 of 12", 0.721, 3.002e6, 0.0963),
]
REFERENCES = list(dict.fromkeys(row.reference for row in ROUNDS))
# The prior of the constants, as mean and deviation of their logs: part, half, steepness, bend, spread, apart.
BEFORE, UNSURE = np.log([0.4, 0.4, 1.2, 0.8, 0.35, 0.012]), np.array([0.5, 1.0, 0.4, 0.2, 0.4, 0.4])


def expected(constants: np.ndarray, rounds: list[Round]) -> tuple[np.ndarray, np.ndarray]:
    """The mean and deviation of each round's gap."""
    part, half, steepness, bend, spread, apart = constants
    lost, per_parameter = np.array([(row.lost, row.tokens / row.parameters) for row in rounds]).T
    mean = part * lost**bend / (1 + (per_parameter / half) ** steepness)
    return mean, np.hypot(spread * mean, apart)


def unlikely(logs: np.ndarray, rounds: list[Round]) -> float:
    """Minus the log of the posterior, up to a constant."""
    mean, deviation = expected(np.exp(logs), rounds)
    weight = np.array([1 / math.sqrt(sum(other.reference == row.reference for other in rounds)) for row in rounds])
    off = (mean - np.array([row.gap for row in rounds])) / deviation
    return float(np.sum(weight * (off**2 / 2 + np.log(deviation))) + np.sum(((logs - BEFORE) / UNSURE) ** 2) / 2)


def fit(rounds: list[Round], tries: int = 20_000) -> np.ndarray:
    """The most likely constants, by a random search whose steps shrink when they fail."""
    random, found, step = np.random.default_rng(0), BEFORE.copy(), 0.2
    best = unlikely(found, rounds)
    for _ in range(tries):
        tried = found + random.normal(size=len(found)) * step
        value = unlikely(tried, rounds)
        better = value < best
        found, best = (tried, value) if better else (found, best)
        step = min(0.3, step * 1.3) if better else max(1e-3, step * 0.995)
    return np.exp(found)


def main() -> None:
    names = ("part", "half", "steepness", "bend", "spread", "apart")
    print(", ".join(f"{name} {value:.4f}" for name, value in zip(names, fit(ROUNDS), strict=True)))
    print("\n| reference | blocks | lost untrained | tokens | a parameter | gap | expected, unseen | a tenth |")
    print("|---|---|---|---|---|---|---|---|")
    errors = []
    for reference in REFERENCES:
        unseen = [row for row in ROUNDS if row.reference == reference]
        means, deviations = expected(fit([row for row in ROUNDS if row.reference != reference]), unseen)
        for row, mean, deviation in zip(unseen, means, deviations, strict=True):
            errors.append((abs(mean - row.gap), abs(row.lost / 10 - row.gap), abs(mean - row.gap) < 1.2816 * deviation))
            print(
                f"| {reference} | {row.kept} | {row.lost:.3f} | {row.tokens:,.0f} | {row.tokens / row.parameters:.4f}"
                f" | {row.gap:+.4f} | {mean:+.4f} ± {deviation:.4f} | {row.lost / 10:+.4f} |",
                flush=True,
            )
    error, old, inside = np.array(errors, float).T
    print(f"\nmean size of the error {error.mean():.4f} (a tenth: {old.mean():.4f}), inside 80%: {inside.mean():.0%}")


if __name__ == "__main__":
    main()
