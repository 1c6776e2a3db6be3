"""A control's own rate against made-up losses: a bowl whose bottom is told."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from inheritune.config.sections import Objective, Training
from inheritune.errors import TrainingError
from inheritune.evidence.gap import Gap
from inheritune.records.entry import Spent
from inheritune.records.stages import OwnRate, RoundEnd
from inheritune.runs.controls import names
from inheritune.runs.own_rate import own_rate, short

TRAINING = Training(tokens=64 * 256, batch_tokens=64, warmup_tokens=640, peak_lr=9e-4, evaluate_every=5)
MEASURED = Spent(tokens=7, flops=1.0, seconds=0.5)


def bowl(
    bottom: float, tried: list[float], bursts: float = math.inf
) -> Callable[[Path, Training], tuple[RoundEnd, Spent]]:
    """The loss grows with the distance of the rate's logarithm from the bottom's; above `bursts` it is no number."""

    def trial(place: Path, training: Training) -> tuple[RoundEnd, Spent]:
        tried.append(training.peak_lr)
        if training.peak_lr > bursts:
            raise TrainingError("blown up")
        loss = 3 + abs(math.log(training.peak_lr / bottom))
        gap, steps = Gap(0.0, -0.1, 0.1, "cannot tell"), training.tokens // training.batch_tokens
        end = RoundEnd(
            step=steps, tokens=training.tokens, flops=2.0, seconds=1.0, skipped=0, ended=False, rate=0.0, depth=3, val_loss=loss, gap=gap,
        )  # fmt: skip
        return end, MEASURED

    return trial


@pytest.mark.parametrize(
    ("bottom", "wanted", "tried"),
    [
        (3e-4, 3e-4, [1e-4, 3e-4, 9e-4]),
        (1e-3, 9e-4, [1e-4, 3e-4, 9e-4, 27e-4]),
        (1e-5, 1e-4 / 9, [1e-4, 3e-4, 9e-4, 1e-4 / 3, 1e-4 / 9]),
        (1.0, 81e-4, [1e-4, 3e-4, 9e-4, 27e-4, 81e-4]),
    ],
)
def test_the_best_rate_is_no_end_of_the_grid_as_far_as_it_reaches(
    tmp_path: Path, bottom: float, wanted: float, tried: list[float]
) -> None:
    seen: list[float] = []
    found = own_rate(tmp_path, TRAINING, bowl(bottom, seen))
    assert found.rate == pytest.approx(wanted) and seen == pytest.approx(tried)
    assert found.tokens == len(tried) * (16 * 64 + 7) and found.flops == len(tried) * 3.0
    assert OwnRate.load(tmp_path / "rate.json") == found
    assert own_rate(tmp_path, TRAINING, bowl(bottom, seen)) == found and len(seen) == len(tried), "kept"


def test_a_rate_that_blows_up_is_the_worst(tmp_path: Path) -> None:
    found = own_rate(tmp_path, TRAINING, bowl(1.0, [], bursts=5e-4))
    assert found.rate == pytest.approx(3e-4) and sorted(found.losses) == pytest.approx([1e-4, 3e-4])


def test_a_short_training_has_the_same_shape() -> None:
    assert TRAINING.warmup_tokens * 16 == short(TRAINING, 1e-4).warmup_tokens * 256
    assert short(TRAINING, 1e-4).tokens == 16 * 64 and short(TRAINING, 1e-4).peak_lr == 1e-4
    few = TRAINING.model_copy(update={"tokens": 5 * 64, "warmup_tokens": 64})
    assert short(few, 1e-4).tokens == 5 * 64, "no more than there are"


def test_the_reference_is_taught_where_its_target_is() -> None:
    assert names(Objective()) == ["reference", "random"]
    assert names(Objective(cross_entropy=0.5, logits=0.5)) == ["reference", "reference-taught", "random"]
