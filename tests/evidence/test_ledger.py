from dataclasses import dataclass

from inheritune.evidence.ledger import ledger


@dataclass(frozen=True)
class Took:
    tokens: int
    flops: float
    seconds: float


def test_sums_by_phase_and_in_total() -> None:
    entries = [("training", Took(10, 2.0, 1.0)), ("heal", Took(1, 0.5, 0.25)), ("training", Took(30, 6.0, 3.0))]
    assert ledger(entries) == {
        "phases": {
            "training": {"tokens": 40, "flops": 8.0, "seconds": 4.0},
            "heal": {"tokens": 1, "flops": 0.5, "seconds": 0.25},
        },
        "total": {"tokens": 41, "flops": 8.5, "seconds": 4.25},
    }


def test_nothing_spent() -> None:
    assert ledger([]) == {"phases": {}, "total": {"tokens": 0, "flops": 0.0, "seconds": 0.0}}
