import numpy as np
import pytest

from inheritune.evidence.gap import Gap, gap
from inheritune.evidence.power import tokens_needed
from inheritune.evidence.sequential import look_confidence, reach_left, reading_confidence


def test_share_of_each_look_by_hand() -> None:
    """5% over five looks is 1% each, above the interval; the two-sided interval leaves as much out below."""
    assert look_confidence(0.95, 5) == pytest.approx(0.984)
    assert look_confidence(0.95, 1) == 0.95 and look_confidence(0.95, 2) == pytest.approx(0.96)


def test_a_look_that_may_read_on_keeps_a_quarter_for_that() -> None:
    """Of the 1.6% that each of five looks leaves out on both sides, 1.2% and 0.4%."""
    assert look_confidence(0.95, 5, reads=1) == pytest.approx(0.988)
    assert reading_confidence(0.95, 5, reads=1) == pytest.approx(0.996)
    assert reading_confidence(0.95, 5, reads=2) == pytest.approx(0.998)
    assert look_confidence(0.95, 1, reads=1) == 0.95 and reading_confidence(0.95, 1, reads=1) == pytest.approx(0.98)


def test_what_is_left_of_a_reach_by_hand() -> None:
    """Four times the text halves it; 2.3263 deviations instead of 1.9600 widen it."""
    assert reach_left(0.95, 0.98, 0.25) == pytest.approx(0.5 * 2.32635 / 1.95996, rel=1e-4)
    assert reach_left(0.95, 0.95, 1.0) == pytest.approx(1.0)


def reads_on(true: float, runs: int) -> tuple[float, float]:
    """Shares of made-up runs of two looks that call a match on 60 documents, and with 180 more where those cannot tell."""
    random, called = np.random.default_rng(0), np.zeros(2)
    first, further = look_confidence(0.95, 2, reads=1), reading_confidence(0.95, 2, reads=1)
    for _ in range(runs):
        shared = random.normal(0, 0.025, 240)
        matched = [False, False]
        for _ in range(2):
            seen = true + shared + random.normal(0, 0.025, 240)
            found = gap(seen[:60], np.zeros(60), confidence=first)
            matched[0] |= gap(seen[:60], np.zeros(60), confidence=look_confidence(0.95, 2)).matched
            if found.verdict == "cannot tell":
                found = gap(seen, np.zeros(240), confidence=further)
            matched[1] |= found.matched
        called += matched
    return tuple(called / runs)


def test_reading_on_tells_more_and_errs_no_more() -> None:
    """On the margin below 5% and the simulation's own error; at a true gap of 0.003 most matches are found by reading on."""
    assert reads_on(0.01, 300)[1] < 0.05 + 2.5 * 0.0126
    without, with_ = reads_on(0.003, 100)
    assert without < 0.6 and with_ > 0.75


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
