import numpy as np
import pytest

from inheritune.evidence.left import ExpectedGap, after_seen, left_after, likely_after


def test_by_hand() -> None:
    """1 nat: 0.337 after the shortest recorded round, on a model so large that it is no more; at 0.527 tokens a parameter half of that; of 0.1 nats 0.1 ** 0.861 = 0.138 times as much."""
    assert left_after(1.0, 16_384, 1e15).mean == pytest.approx(0.337, rel=1e-4)
    assert left_after(1.0, 527_000, 1e6).mean == pytest.approx(0.1685)
    assert left_after(0.1, 527_000, 1e6).mean == pytest.approx(0.1685 * 0.1377, rel=1e-3)


def test_a_round_without_tokens_leaves_all_and_a_short_one_most() -> None:
    """A round of 4,096 tokens does a quarter of what one of 16,384 does: of 0.212 nats 0.089 and three quarters of the rest are left.

    Measured: 27 of SmolLM2's 30 blocks, which lost 0.212 nats, stood at +0.190 [+0.131, +0.250] after 4,096 tokens.
    """
    assert left_after(0.212, 0, 134.5e6).mean == pytest.approx(0.212)
    assert left_after(0.212, 4_096, 134.5e6).mean == pytest.approx(0.0886 + 0.75 * (0.212 - 0.0886), abs=1e-3)
    assert left_after(0.001, 4_096, 1e15).mean < 0.001, "a cut that loses next to nothing is not expected to lose more"


def test_more_tokens_leave_less_and_larger_models_more() -> None:
    assert left_after(0.5, 1e6, 1e6).mean < left_after(0.5, 1e5, 1e6).mean < left_after(0.5, 1e5, 1e8).mean
    assert left_after(0.5, 5e6, 1e6) == left_after(0.5, 1e9, 1e6), (
        "one recorded round had more than five tokens a parameter"
    )
    assert left_after(0.5, 1e6, 1e6).deviation > 0.01, "and it is never told as certain"


def test_a_cut_that_loses_nothing_is_expected_to_be_level() -> None:
    assert left_after(-0.01, 1000, 1e6).mean == 0
    assert left_after(0.0, 1000, 1e6).chance_below(0.01) == pytest.approx(0.818, abs=0.001), "0.91 deviations"


def test_what_one_depth_came_to_scales_the_others() -> None:
    """Three times what was expected of it, so three times of the other, known to 35% of it and 0.004."""
    found = after_seen(wanted=ExpectedGap(0.05, 0.01, 0.011), seen=ExpectedGap(0.1, 0.02, 0.012), gap=0.06)
    assert found.mean == pytest.approx(0.03)
    assert found.deviation == pytest.approx((0.01062**2 + 0.004**2) ** 0.5)
    assert after_seen(ExpectedGap(0.05, 0.01, 0.011), ExpectedGap(0.1, 0.02, 0.012), gap=-0.01).mean == 0


def test_says_what_it_expects() -> None:
    said = str(left_after(0.09, 843_776, 887_520))
    assert said == ("the cut loses 0.090 nats untrained, of which 0.017 ± 0.013 is expected to be left after a round")


def test_a_cut_that_nobody_measured_is_as_likely_as_by_many_draws() -> None:
    """The law of the cut's loss, then the law of what is left of it, drawn 200,000 times."""
    draws = np.random.default_rng(0).normal(size=(2, 200_000))
    lost = 3.5 * 0.25**1.6 * np.exp(0.6 * draws[0])
    mean = 0.337 * lost**0.861 / (1 + (2e6 / 1e6 / 0.527) ** 0.629)
    gaps = mean + np.hypot(0.354 * mean, 0.011) * draws[1]
    found = likely_after(0.25, 2e6, 1e6, 0.02)
    assert found.lost == pytest.approx(np.quantile(lost, (0.1, 0.5, 0.9)), rel=0.01)
    assert found.gap == pytest.approx((np.quantile(gaps, 0.1), gaps.mean(), np.quantile(gaps, 0.9)), abs=1.5e-3)
    assert found.chance == pytest.approx((gaps < 0.02).mean(), abs=0.01)
