"""A control's own learning rate: tried on a sixteenth of its tokens, from a small grid that grows, within bounds, while its end is the best."""

import math
from collections.abc import Callable
from pathlib import Path

from inheritune.config.sections import MOST_RATE, Training
from inheritune.disk.folders import remove
from inheritune.errors import TrainingError
from inheritune.records.entry import NOTHING_SPENT, Spent
from inheritune.records.stages import OwnRate, RoundEnd
from inheritune.runs.folder import once
from inheritune.runtime import processes
from inheritune.training.schedule import steps_of

Trial = Callable[[Path, Training], tuple[RoundEnd, Spent]]

_TRIALS = "rates"
_STEP = 3.0  # from one rate to the next
_FIRST = (-2, -1, 0)  # powers of `_STEP`, by which the recipe's peak is multiplied
_LOWEST, _HIGHEST = -4, 2
_SHARE, _FEWEST_STEPS = 16, 8


def own_rate(place: Path, training: Training, trial: Trial) -> OwnRate:
    """Find the peak rate with the lowest validation loss after a short training; kept as `rate.json` in the folder `place`.

    `trial(folder, training)` trains from the control's start in a folder of its own, and returns the round's end and the cost
    of its evaluation. Where the best rate is the grid's lowest or highest, the next one within the bounds is tried too. A rate at which training
    blows up counts as infinitely bad.
    """

    if not processes.agreed((place / OwnRate.NAME).exists()):
        found = _search(place, training, trial)
        once(OwnRate, place / OwnRate.NAME, lambda: found)
    processes.meet()  # every process has read the trials before they are removed
    processes.on_main(lambda: remove(place / _TRIALS))
    return OwnRate.load(place / OwnRate.NAME)


def _search(place: Path, training: Training, trial: Trial) -> OwnRate:
    losses, spent = dict[int, float](), NOTHING_SPENT
    while (power := _next(losses)) is not None:
        rate = _rate(training, power)
        losses[power], took = _tried(place / _TRIALS / f"{rate:.3g}", short(training, rate), trial)
        spent += took
    rates = {_rate(training, power): loss for power, loss in sorted(losses.items())}
    finite = {rate: loss for rate, loss in rates.items() if math.isfinite(loss)}
    return OwnRate(rate=min(rates, key=rates.__getitem__), losses=finite, **dict(spent))


def short(training: Training, rate: float) -> Training:
    """A sixteenth of a training, but at least eight steps, at another peak rate: a schedule of the same shape, evaluated only at its end."""
    whole = steps_of(training)
    steps = min(whole, max(whole // _SHARE, _FEWEST_STEPS))
    changes = {
        "peak_lr": rate, "tokens": steps * training.batch_tokens, "warmup_tokens": training.warmup_tokens * steps // whole,
        "evaluate_every": steps, "checkpoint_every": steps, "checkpoints_kept": 1,
    }  # fmt: skip
    return training.model_copy(update=changes)


def _tried(folder: Path, training: Training, trial: Trial) -> tuple[float, Spent]:
    try:
        found, measured = trial(folder, training)
    except TrainingError:
        return math.inf, NOTHING_SPENT
    trained = Spent(tokens=found.tokens, flops=found.flops, seconds=found.seconds)
    return found.val_loss, trained + measured


def _rate(training: Training, power: int) -> float:
    return min(training.peak_lr * _STEP**power, MOST_RATE)


def _next(losses: dict[int, float]) -> int | None:
    """The power of the next rate to try: what is left of the grid, or one beyond its end where the best is there; else None."""
    left = [power for power in _FIRST if power not in losses]
    if left:
        return left[0]
    best, beyond = min(losses, key=losses.__getitem__), None
    if best == min(losses):
        beyond = best - 1
    elif best == max(losses):
        beyond = best + 1
    return beyond if beyond is not None and _LOWEST <= beyond <= _HIGHEST else None
