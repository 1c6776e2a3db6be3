import numpy as np
import pytest

from inheritune.evidence.gap import _student, gap


def test_three_documents_by_hand() -> None:
    """Differences 0, 0.2, -0.1: mean 1/30, sample deviation 0.152753, and t(2) = 4.302653 at 95 %."""
    found = gap([1.0, 1.2, 0.9], [1.0, 1.0, 1.0])
    reach = 4.302653 * 0.15275252 / np.sqrt(3)
    assert found.mean == pytest.approx(1 / 30)
    assert (found.low, found.high) == pytest.approx((1 / 30 - reach, 1 / 30 + reach))
    assert found.verdict == "cannot tell"


def test_mean_is_weighted_by_tokens() -> None:
    """(1 * 0.4 + 3 * 0.0) / 4."""
    assert gap([1.4, 2.0], [1.0, 2.0], tokens=[1, 3]).mean == pytest.approx(0.1)


def test_pieces_of_one_document_are_one_observation() -> None:
    """Cutting a document in pieces gives the interval of the whole document, and not a narrower one."""
    whole = gap([1.5, 1.0, 1.2], [1.0, 1.0, 1.0], tokens=[4, 2, 2])
    losses, tokens, owners = [1.2, 1.8, 1.0, 1.2], [2, 2, 2, 2], ["a", "a", "b", "c"]
    pieces = gap(losses, np.ones(4), tokens=tokens, documents=owners)
    assert (pieces.mean, pieces.low, pieces.high) == pytest.approx((whole.mean, whole.low, whole.high))
    apart = gap(losses, np.ones(4), tokens=tokens)
    assert apart.high - apart.low != pytest.approx(pieces.high - pieces.low)


def test_unequal_clusters_by_hand() -> None:
    """Weights 6, 2, 2 and differences 0, 0.1, 0.3: left out one at a time the mean is 0.2, 0.075 and 0.025.

    Against 0.08 for all: 2/3 of the squares' sum, 0.01745, is an error of 0.107858; 100/44 - 1 degrees of freedom.
    """
    found = gap([0.0, 0.1, 0.3], np.zeros(3), tokens=[6, 2, 2])
    assert found.mean == pytest.approx(0.08)
    assert found.high - found.mean == pytest.approx(np.sqrt(2 / 3 * 0.01745) * _student(0.95, 100 / 44 - 1))


def test_many_clusters_keep_the_plain_interval() -> None:
    """60 documents as if equal: the ratio's linear error, with t(59) = 2.0010."""
    random = np.random.default_rng(0)
    losses, tokens = random.normal(0.02, 0.1, 60), random.integers(90, 110, 60)
    residuals = tokens * (losses - np.average(losses, weights=tokens))
    wanted = 2.0010 * np.sqrt(60 / 59 * np.sum(residuals**2)) / tokens.sum()
    found = gap(losses, np.zeros(60), tokens=tokens)
    assert (found.high - found.low) / 2 == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("sizes", [[100] * 10, [4, 6, 10, 16, 25, 40, 63, 100, 200, 400], [10] * 40 + [200]])
def test_sections_of_books_are_covered_by_books_and_not_by_sections(sizes: list[int]) -> None:
    """Two sections of one book correlate by 0.1. 400 simulated intervals of 95 %, within simulation error."""
    random, owner = np.random.default_rng(0), np.repeat(np.arange(len(sizes)), sizes)
    held = np.zeros(2)
    for _ in range(400):
        shared = random.normal(0, 0.1**0.5, len(sizes))[owner]
        losses = shared + random.normal(0, 0.9**0.5, len(owner))
        for at, documents in enumerate((None, owner)):
            found = gap(losses, np.zeros(len(owner)), documents=documents)
            held[at] += found.low <= 0 <= found.high
    assert held[0] / 400 < 0.8
    assert held[1] / 400 >= 0.92


def test_error_agrees_with_bootstrap() -> None:
    random = np.random.default_rng(0)
    target, reference, tokens = random.normal(0.02, 0.1, 80) + 3, np.full(80, 3.0), random.integers(20, 400, 80)
    found = gap(target, reference, tokens=tokens)
    drawn = random.integers(80, size=(4000, 80))
    means = np.sum((target - reference)[drawn] * tokens[drawn], 1) / tokens[drawn].sum(1)
    assert (found.high - found.low) / 2 / 1.9905 == pytest.approx(means.std(), rel=0.05)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    """2,000 made-up runs with a true gap of 0.03: 95 % of the intervals hold it, within simulation error."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(2000):
        found = gap(random.normal(0.03, 0.1, 40), np.zeros(40), tokens=random.integers(50, 150, 40))
        held += found.low <= 0.03 <= found.high
    assert 0.935 <= held / 2000 <= 0.965


@pytest.mark.parametrize(
    ("difference", "verdict", "matched"),
    [(-0.002, "surpassed", True), (0.0, "matched", True), (0.009, "matched", True), (0.011, "worse", False)],
)
def test_verdict_of_an_interval_without_width(difference: float, verdict: str, matched: bool) -> None:
    found = gap(np.full(5, 2 + difference), np.full(5, 2.0), margin=0.01)
    assert (found.verdict, found.matched) == (verdict, matched)


def test_wide_interval_cannot_tell_and_is_no_match() -> None:
    found = gap([1.1, 0.9, 1.1, 0.9], np.ones(4), margin=0.01)
    assert found.verdict == "cannot tell" and not found.matched
    assert str(found).endswith("(cannot tell)")


def test_above_zero_but_across_the_margin_cannot_tell() -> None:
    """0.005 to 0.015: certainly above the reference, and not certainly worse than the margin."""
    found = gap([1.005, 1.015] * 8, np.ones(16), margin=0.01)
    assert 0 < found.low < 0.01 < found.high and found.verdict == "cannot tell"


def test_more_confidence_is_a_wider_interval() -> None:
    losses = [1.0, 1.1, 1.3, 0.9]
    narrow, wide = gap(losses, np.ones(4), confidence=0.9), gap(losses, np.ones(4), confidence=0.99)
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([1.0, 2.0], [1.0]), "equal length"),
        (([1.0], [1.0]), "two documents"),
        (([1.0, 2.0], [1.0, 2.0], None, [7, 7]), "two documents"),
        (([1.0, np.nan], [1.0, 2.0]), "not finite"),
        (([1.0, 2.0], [np.inf, 2.0]), "not finite"),
        (([1.0, 2.0], [1.0, 2.0], [1, 0]), "above 0"),
        (([1.0, 2.0], [1.0, 2.0], [1, np.inf]), "above 0"),
        (([1.0, 2.0], [1.0, 2.0], [1, np.nan]), "above 0"),
        (([[1.0, 2.0]], [[1.0, 2.0]], [[1, 1]], [[0, 1]]), "one row"),
    ],
)
def test_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        gap(*arguments)


@pytest.mark.parametrize(
    ("confidence", "freedom", "table"),
    [
        (0.95, 1, 12.7062),
        (0.95, 1.5, 6.0167),  # Simpson over the density
        (0.99, 2.5, 7.1636),
        (0.95, 2, 4.3027),
        (0.95, 3, 3.1824),
        (0.95, 4, 2.7764),
        (0.95, 5, 2.5706),
        (0.95, 10, 2.2281),
        (0.95, 30, 2.0423),
        (0.95, 120, 1.9799),
        (0.90, 3, 2.3534),
        (0.90, 10, 1.8125),
        (0.99, 2, 9.9248),
        (0.99, 4, 4.6041),
        (0.99, 10, 3.1693),
        (0.99, 30, 2.7500),
        (0.99, 120, 2.6174),
    ],
)
def test_student_against_the_table(confidence: float, freedom: int, table: float) -> None:
    assert _student(confidence, freedom) == pytest.approx(table, rel=2e-3)


@pytest.mark.parametrize(
    ("confidence", "freedom", "known", "close"),
    [
        (0.9, 5, 2.015048373, 1e-3),
        (0.95, 5, 2.570581836, 1e-3),
        (0.99, 5, 4.032142984, 1e-3),
        (0.95, 10, 2.228138852, 1e-5),
        (0.99, 10, 3.169272673, 5e-5),
    ],
)
def test_student_is_as_exact_as_it_says(confidence: float, freedom: int, known: float, close: float) -> None:
    """Below 0.1% from five degrees of freedom on; at ten each term of the expansion counts."""
    assert _student(confidence, freedom) == pytest.approx(known, rel=close)
