from inheritune.evidence.ledger import Spent, ledger


def test_sums_by_phase_and_in_total() -> None:
    entries = [("training", Spent(10, 2.0, 1.0)), ("heal", Spent(1, 0.5, 0.25)), ("training", Spent(30, 6.0, 3.0))]
    assert ledger(entries) == {
        "phases": {
            "training": {"tokens": 40, "flops": 8.0, "seconds": 4.0},
            "heal": {"tokens": 1, "flops": 0.5, "seconds": 0.25},
        },
        "total": {"tokens": 41, "flops": 8.5, "seconds": 4.25},
    }


def test_nothing_spent() -> None:
    assert ledger([]) == {"phases": {}, "total": {"tokens": 0, "flops": 0.0, "seconds": 0.0}}
