import numpy as np
import pytest

from inheritune.evidence.gap import Gap, gap
from inheritune.evidence.power import tokens_needed
from inheritune.evidence.sequential import look_confidence


def test_share_of_each_look_by_hand() -> None:
    """5% over five looks is 1% each, above the interval; the two-sided interval leaves as much out below."""
    assert look_confidence(0.95, 5) == pytest.approx(0.984)
    assert look_confidence(0.95, 1) == 0.95 and look_confidence(0.95, 2) == pytest.approx(0.96)


def test_needs_a_look() -> None:
    with pytest.raises(ValueError, match="0 looks"):
        look_confidence(0.95, 0)


def false_matches(looks: int, confidence: float, correlation: float) -> float:
    """Share of 1,200 made-up runs that call a match at some look though the gap stands on the margin at all."""
    random, called = np.random.default_rng(0), 0
    for _ in range(1200):
        shared = random.normal(0, 0.07, 60)
        seen = [
            0.01 + correlation**0.5 * shared + (1 - correlation) ** 0.5 * random.normal(0, 0.07, 60)
            for _ in range(looks)
        ]
        called += any(gap(each, np.zeros(60), confidence=confidence).matched for each in seen)
    return called / 1200


@pytest.mark.parametrize("correlation", [0.0, 0.5])
def test_a_whole_run_errs_in_less_than_its_share(correlation: float) -> None:
    """5%, and two and a half deviations of the simulation's own error."""
    assert false_matches(6, look_confidence(0.95, 6), correlation) < 0.05 + 2.5 * 0.0063


def test_looks_that_are_not_paid_for_err_more() -> None:
    assert false_matches(6, 0.95, 0.0) > 0.1


def test_power_by_hand() -> None:
    """Error 0.01 on 1,000 tokens; 1.96 + 0.8416 deviations of 0.005 / 2.8016 = 0.0017847: (0.01 / 0.0017847)² times the text."""
    found = Gap(0.0, -0.0196, 0.0196, "cannot tell")
    assert tokens_needed(found, 1000, 0.95) == pytest.approx(1000 * (0.01 / 0.0017847) ** 2, rel=1e-3)
    with pytest.raises(ValueError, match="above 0"):
        tokens_needed(found, 1000, 0.95, difference=0.0)


def test_power_keeps_its_word() -> None:
    """With as much text as it asks for, a true gap of 0.005 is told from 0 in about four of five samples."""
    random = np.random.default_rng(1)
    first = gap(random.normal(0.005, 0.03, 400), np.zeros(400), confidence=0.95)
    wanted = tokens_needed(first, 400, 0.95)
    seen = [gap(random.normal(0.005, 0.03, wanted), np.zeros(wanted)).low > 0 for _ in range(400)]
    assert 0.7 < np.mean(seen) < 0.9
