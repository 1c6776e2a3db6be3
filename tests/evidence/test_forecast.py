from collections.abc import Callable
from math import cos, pi

import numpy as np
import pytest

from inheritune import forecast

END = 1000


def cosine(step: float) -> float:
    return (1 + cos(pi * step / END)) / 2


def stable_then_down(step: float) -> float:
    return min(1.0, (END - step) / 200)


def made_up(rate: Callable[[float], float], noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A floor of 3, a power law, a cost of the rate, noise; the truth at the end is 3.05 plus the last rate's cost."""
    step = np.arange(20, END + 1, 20.0)
    loss = 3 + 0.05 * (step / END) ** -0.6 + 0.12 * np.array([rate(s) for s in step])
    return step, loss + np.random.default_rng(seed).normal(0, noise, len(step))


@pytest.mark.parametrize("rate", [cosine, stable_then_down, lambda _step: 1.0, lambda step: 1 - step / END])
def test_finds_the_end_of_a_made_up_run(rate: Callable[[float], float]) -> None:
    steps, losses = made_up(rate, 0.005)
    truth, seen = 3.05 + 0.12 * rate(END), steps <= 0.6 * END
    found = forecast(steps[seen], losses[seen], END, rate=rate)
    assert found.low <= truth <= found.high
    assert abs(found.mean - truth) < 0.04


def test_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    inside, widths = 0, []
    for seed in range(40):
        steps, losses = made_up(cosine, 0.01, seed)
        found = forecast(steps[:25], losses[:25], END, rate=cosine)
        inside += found.low <= 3.05 <= found.high
        widths.append(found.high - found.low)
    assert inside >= 28 and np.mean(widths) < 0.12


def test_rate_may_be_a_table() -> None:
    steps, losses = made_up(cosine, 0.0)
    asked = np.arange(END + 1)
    as_pair = forecast(steps[:30], losses[:30], END, rate=(asked, [cosine(s) for s in asked]))
    as_row = forecast(steps[:30], losses[:30], END, rate=[cosine(s) for s in asked])
    as_function = forecast(steps[:30], losses[:30], END, rate=cosine)
    assert as_pair == as_row
    assert as_pair.mean == pytest.approx(as_function.mean, abs=1e-4)


def test_curve_shared_with_the_reference_is_learnt_from_it() -> None:
    """Both fall by 0.2 late, as no schedule says; the reference alone shows it."""
    steps, losses = made_up(lambda _step: 1.0, 0.003)
    reference = losses - 0.2 * np.clip((steps - 600) / 400, 0, 1)
    target = reference + 0.05 + np.random.default_rng(9).normal(0, 0.003, len(steps))
    seen = steps <= 0.6 * END
    alone = forecast(steps[seen], target[seen], END, rate=lambda _step: 1.0)
    together = forecast(steps[seen], target[seen], END, (steps, reference), lambda _step: 1.0)
    truth = reference[-1] + 0.05
    assert abs(together.mean - truth) < abs(alone.mean - truth) / 2


def test_width_shrinks_with_what_is_seen_and_few_points_are_told_as_few() -> None:
    steps, losses = made_up(cosine, 0.005)
    widths = [
        found.high - found.low
        for found in (forecast(steps[:n], losses[:n], END, rate=cosine) for n in (1, 4, 15, 30, 48))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 5 * widths[-1]


def test_a_curve_without_noise_is_known_as_closely_as_a_quiet_one() -> None:
    """At step 960 of 1,000: the least noise that is thought of is two thousandths of a nat."""
    steps, losses = made_up(cosine, 0.0)
    assert forecast(steps[:48], losses[:48], END, rate=cosine).reach < 0.0022


def test_past_is_told_without_its_noise() -> None:
    steps, losses = made_up(cosine, 0.01)
    at_last = forecast(steps, losses, END, rate=cosine)
    assert abs(at_last.mean - 3.05) < 0.015
    within = forecast(steps, losses, 500, rate=cosine)
    assert within.mean == pytest.approx(3 + 0.05 * 0.5**-0.6 + 0.06, abs=0.015)


def test_lonely_spike_order_and_holes_change_little() -> None:
    steps, losses = made_up(cosine, 0.003)
    plain = forecast(steps[:30], losses[:30], END, rate=cosine)
    spiked = losses[:30].copy()
    spiked[20] += 0.5
    assert forecast(steps[:30], spiked, END, rate=cosine).mean == pytest.approx(plain.mean, abs=0.01)
    order = np.random.default_rng(0).permutation(30)
    assert forecast(steps[order], losses[order], END, rate=cosine).mean == pytest.approx(plain.mean, abs=1e-9)
    holes = np.append(losses[:29], np.nan)
    assert forecast(steps[:30], holes, END, rate=cosine) == forecast(steps[:29], losses[:29], END, rate=cosine)


def test_thousands_of_points_are_thinned() -> None:
    steps = np.arange(1, 5001.0)
    found = forecast(steps, 3 + 0.05 * (steps / 10_000) ** -0.5, 10_000, rate=lambda _step: 1.0)
    assert found.mean == pytest.approx(3.05, abs=0.01)


@pytest.mark.parametrize(
    ("steps", "losses", "end", "said"),
    [
        ([1, 2], [3.0], 10, "equal length"),
        ([], [], 10, "at least one"),
        ([0], [3.0], 10, "at least one"),
        ([1], [np.nan], 10, "at least one"),
        ([1], [3.0], 0, "above 0"),
    ],
)
def test_refused(steps: list, losses: list, end: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        forecast(steps, losses, end)
