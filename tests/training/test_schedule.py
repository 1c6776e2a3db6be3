import math

import pytest

from inheritune.config.sections import Training
from inheritune.training.schedule import learning_rate, steps_before_fall, steps_of


def rates(schedule: str, **changes: float) -> list[float]:
    """Ten steps, of which the first two warm up."""
    training = Training(tokens=1000, batch_tokens=100, warmup_tokens=200, peak_lr=0.6, schedule=schedule, **changes)
    return [learning_rate(training, step) for step in range(steps_of(training))]


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "wsd"])
def test_warm_up_leads_to_the_peak(schedule: str) -> None:
    assert rates(schedule)[:3] == pytest.approx([0.2, 0.4, 0.6])


def test_shapes_by_hand() -> None:
    """After warm-up, step s has done (s - 2) / 8 of the decay."""
    assert rates("constant")[2:] == pytest.approx([0.6] * 8)
    assert rates("linear")[2:] == pytest.approx([0.6 * (8 - done) / 8 for done in range(8)])
    assert rates("cosine")[6] == pytest.approx(0.3)
    assert rates("cosine")[4] == pytest.approx(0.3 * (1 + math.sqrt(0.5)))
    assert rates("wsd", decay_share=0.5)[2:] == pytest.approx([0.6] * 5 + [0.45, 0.3, 0.15])


def test_final_rate_is_a_share_of_the_peak() -> None:
    assert rates("linear", final_lr=0.1)[6] == pytest.approx(0.6 * 0.55)
    assert min(rates("cosine", final_lr=0.1)) > 0.06


@pytest.mark.parametrize(("share", "steps"), [(0.5, 7), (0.75, 5), (0.125, 10)])
def test_steps_before_the_fall_by_hand(share: float, steps: int) -> None:
    """Two steps of warm-up and eight more: step s (from 0) is below the peak where (10 - s) / 8 < share."""
    training = Training(tokens=1000, batch_tokens=100, warmup_tokens=200, schedule="wsd", decay_share=share)
    assert steps_before_fall(training) == steps


def test_last_step_is_whole() -> None:
    assert steps_of(Training(tokens=1001, batch_tokens=100)) == 11
    assert steps_of(Training(tokens=1000, batch_tokens=100)) == 10
