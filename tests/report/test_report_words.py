# ruff: noqa: RUF001  (the page's own minus, dash and times signs)
import pytest

from inheritune.records.gap import GapResult
from inheritune.report import words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (1_228_800, "1.23 M"),
        (999_999, "1 M"),
        (8.2e9, "8.2 B"),
        (None, "–"),
    ],
)
def test_counts_have_three_digits_and_carry_over(value: float | None, said: str) -> None:
    assert words.large_number(value) == said


@pytest.mark.parametrize(("value", "said"), [(0, "0"), (9.96e12, "1.0 × 10¹³"), (1.44e13, "1.4 × 10¹³")])
def test_flops_are_powers_of_ten(value: float, said: str) -> None:
    assert words.flops(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "under 1 s"), (1.04, "1 s"), (59.4, "59 s"), (59.9, "1 min"), (205, "3.4 min"), (3570, "60 min"), (3590, "1 h"),
        (6070, "1.7 h"), (360_000, "100 h"), (5_000_000, "1,400 h"),
    ],
)  # fmt: skip
def test_estimated_times_have_two_digits(seconds: float, said: str) -> None:
    assert words.about(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (2.14, "2.1 s"),
        (59.6, "1 min 00 s"),
        (410.4, "6 min 50 s"),
        (3599.7, "1 h 00 min"),
        (7321, "2 h 02 min"),
    ],
)
def test_durations_use_two_units(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_a_gap_that_rounds_to_nothing_has_no_sign() -> None:
    gap = GapResult(mean=0.00001, low=-0.0023, high=0.0024, verdict="matched")
    assert words.interval(gap) == "0.0000 [−0.0023, +0.0024]"


def test_small_shares_keep_a_digit() -> None:
    assert [words.percent(part, 1000) for part in (0, 4, 500)] == ["0%", "0.4%", "50%"]


def test_perplexities_are_plain_numbers() -> None:
    assert [words.perplexity(loss) for loss in (3.566, 7.4814, 20.0)] == ["35.4", "1,775", "> 1 M"]


def test_a_reason_becomes_a_sentence_once() -> None:
    assert words.sentence("blocks go one by one") == "Blocks go one by one."
    assert words.sentence("20 blocks match.") == "20 blocks match."
