"""How often a whole run calls a match though the target is worse than the margin, by simulation.

    python benchmarks/false_match.py [--runs 20000]

Each run has 184 documents of uneven length whose differences have heavy tails. At every look the true gap stands exactly on
the margin, the worst case: whatever is called is false. A document's differences are correlated from look to look, for the
documents are the same and the target is trained on; the default run's own rounds have 0.5 to 0.6. "timed": the run also
evaluates ten times between looks, on the same documents, and takes its look at once where the gap stands half the margin
below the margin, so that the moment of a look is picked by the data that it looks at. Takes about five minutes with 4,000 runs.
"""

import argparse

import numpy as np

from inheritune.evidence.gap import gap
from inheritune.evidence.sequential import look_confidence

DOCUMENTS, MARGIN, SPREAD, INSIDE = 184, 0.01, 0.07, 10


def falsely_matched(
    random: np.random.Generator, looks: int, correlation: float, timed: bool, confidence: float
) -> bool:
    """One run; `correlation` is that of a document's differences between two looks (rounds)."""
    weights = np.minimum(random.lognormal(5.6, 0.8, DOCUMENTS), 512).round() + 1
    steps = INSIDE if timed else 1
    kept = correlation ** (1 / steps)
    state = random.standard_t(5, DOCUMENTS)
    for _ in range(looks):
        for _ in range(steps):
            state = kept * state + np.sqrt(1 - kept**2) * random.standard_t(5, DOCUMENTS)
            seen = MARGIN + SPREAD * state / np.sqrt(5 / 3)
            if timed and np.average(seen, weights=weights) < MARGIN / 2:
                break
        if gap(seen, np.zeros(DOCUMENTS), tokens=weights, margin=MARGIN, confidence=confidence).matched:
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    runs = parser.parse_args().runs
    print("| looks | correlation of looks | timed by the same documents | plain 95% each | paid for |")
    print("|---|---|---|---|---|")
    for timed in (False, True):
        for looks in (1, 2, 3, 8):
            for correlation in (0.5, 0.9, 0.99) if timed else (0.0, 0.5, 0.9, 0.99):
                row = []
                for confidence in (0.95, look_confidence(0.95, looks)):
                    random = np.random.default_rng(0)
                    called = [falsely_matched(random, looks, correlation, timed, confidence) for _ in range(runs)]
                    row.append(f"{np.mean(called):.1%}")
                print(f"| {looks} | {correlation:g} | {'yes' if timed else 'no'} | {row[0]} | {row[1]} |", flush=True)


if __name__ == "__main__":
    main()
