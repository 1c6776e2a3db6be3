"""How often an interval covers the true gap, and how often a whole run declares a match though the target is worse than the margin.

    python benchmarks/false_match.py [--runs 4000] [--tables clusters looks further]

`clusters`: documents are sections of books, and the sections of one book share part of their difference (`correlation`). `looks`: a
run has 184 documents of uneven length whose differences have heavy tails. In both, the true gap is exactly the margin, the worst
case: every match is false. A document's differences at two looks are correlated, since the documents are the same and it is the same
target, trained further; in the default run's own rounds the correlation is 0.5 to 0.6. "timed": the run also evaluates ten times
between looks, on the same documents, and takes its look at once if the gap is below half the margin, so that the data of a look also
choose its moment. `further`: a look that cannot tell reads on, to four times the documents in all, at the confidence that is kept for
it; with independent documents and with sections of books, at the margin (every match is false) and at true gaps below it. Takes about
five minutes with 4,000 runs.
"""

import argparse

import numpy as np

from inheritune.evidence.gap import gap
from inheritune.evidence.sequential import look_confidence, reading_confidence

DOCUMENTS, MARGIN, SPREAD, INSIDE = 184, 0.01, 0.07, 10
Books = tuple[str, list[int]]
BOOKS: tuple[Books, ...] = (
    ("10 of 100 sections", [100] * 10),
    ("30 of 30 sections", [30] * 30),
    ("10 of 4 to 400 sections", [4, 6, 10, 16, 25, 40, 63, 100, 200, 400]),
    ("5 of 5 to 200 sections", [5, 10, 20, 50, 200]),
    ("100 of 10 sections, one of 500", [10] * 100 + [500]),
    ("2 of 50 sections", [50] * 2),
    ("200 of 1 section", [1] * 200),
)


def heavy_tailed(random: np.random.Generator, count: int) -> np.ndarray:
    """Student's t with five degrees of freedom, scaled to a standard deviation of 1."""
    return random.standard_t(5, count) / np.sqrt(5 / 3)


def of_books(random: np.random.Generator, sizes: list[int], correlation: float) -> tuple[np.ndarray, np.ndarray]:
    """Each section's difference, with `correlation` between two sections of one book, and each section's book."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    shared, own = heavy_tailed(random, len(sizes))[owner], heavy_tailed(random, len(owner))
    return MARGIN + SPREAD * (correlation**0.5 * shared + (1 - correlation) ** 0.5 * own), owner


def clusters(runs: int) -> None:
    """Coverage and false matches, with each section as a document of its own and with books as clusters."""
    print("| books | correlation | sections: covered | falsely matched | books: covered | falsely matched |")
    print("|---|---|---|---|---|---|")
    for name, sizes in BOOKS:
        for correlation in (0.0, 0.1, 0.5):
            random, row = np.random.default_rng(0), np.zeros(4)
            for _ in range(runs):
                seen, owner = of_books(random, sizes, correlation)
                for at, documents in enumerate((None, owner)):
                    found = gap(seen, np.zeros(len(seen)), documents=documents, margin=MARGIN)
                    row[2 * at : 2 * at + 2] += found.low <= MARGIN <= found.high, found.matched
            print(
                f"| {name} | {correlation:g} | " + " | ".join(f"{share:.1%}" for share in row / runs) + " |", flush=True
            )


def falsely_matched(
    random: np.random.Generator, looks: int, correlation: float, timed: bool, confidence: float
) -> bool:
    """Whether a run declares a match; `correlation` is that of a document's differences at two successive looks (rounds)."""
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


def looks(runs: int) -> None:
    """False matches of whole runs, with plain intervals and with intervals corrected for the number of looks."""
    print("| looks | correlation of looks | timed by the same documents | plain 95% each | paid for |")
    print("|---|---|---|---|---|")
    for timed in (False, True):
        for count in (1, 2, 3, 8):
            for correlation in (0.5, 0.9, 0.99) if timed else (0.0, 0.5, 0.9, 0.99):
                row = []
                for confidence in (0.95, look_confidence(0.95, count)):
                    random = np.random.default_rng(0)
                    called = [falsely_matched(random, count, correlation, timed, confidence) for _ in range(runs)]
                    row.append(f"{np.mean(called):.1%}")
                print(f"| {count} | {correlation:g} | {'yes' if timed else 'no'} | {row[0]} | {row[1]} |", flush=True)


def called(random: np.random.Generator, true: float, count: int, correlation: float, reads_on: bool) -> bool:
    """Whether a run of `count` looks declares a match.

    It reads 184 documents, or 40 books of 5 to 14 sections; where it reads on, four times as many in all.
    """
    sizes = random.integers(5, 15, 160) if correlation else np.ones(4 * DOCUMENTS, int)
    owner, first = np.repeat(np.arange(len(sizes)), sizes), int(sizes[: len(sizes) // 4].sum())
    book, own = heavy_tailed(random, len(sizes))[owner], heavy_tailed(random, len(owner))
    confidences = look_confidence(0.95, count, int(reads_on)), reading_confidence(0.95, count, 1)
    for _ in range(count):
        now = 0.5**0.5 * own + 0.5**0.5 * heavy_tailed(random, len(owner))
        seen = true + SPREAD / 2 * (correlation**0.5 * book + (1 - correlation) ** 0.5 * now)
        for end, confidence in zip((first, len(owner)) if reads_on else (first,), confidences, strict=False):
            found = gap(seen[:end], np.zeros(end), documents=owner[:end], margin=MARGIN, confidence=confidence)
            if found.verdict != "cannot tell":
                break
        if found.matched:
            return True
    return False


def further(runs: int) -> None:
    """Matches of whole runs, without and with looks that read on where they cannot tell."""
    print("| looks | correlation in a book | true gap | matched at once | with reading on |")
    print("|---|---|---|---|---|")
    for count in (1, 3, 8):
        for correlation in (0.0, 0.1, 0.5):
            for true in (MARGIN, 0.006, 0.003, 0.0):
                row = []
                for reads_on in (False, True):
                    random = np.random.default_rng(0)
                    row.append(np.mean([called(random, true, count, correlation, reads_on) for _ in range(runs)]))
                print(f"| {count} | {correlation:g} | {true:+.3f} | {row[0]:.1%} | {row[1]:.1%} |", flush=True)


TABLES = {"clusters": clusters, "looks": looks, "further": further}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=list(TABLES))
    given = parser.parse_args()
    for name in given.tables:
        TABLES[name](given.runs)
        print()


if __name__ == "__main__":
    main()
