"""The learning rate of each step of a round: linear warm-up, then a shape by name."""

import math
from bisect import bisect_left

from inheritune.config.sections import Training
from inheritune.records.stages import RateFall


def steps_of(training: Training) -> int:
    """Optimizer steps in a round (the last one is whole, so up to a batch more than `tokens` is read)."""
    return math.ceil(training.tokens / training.batch_tokens)


def rounded_up(training: Training, tokens: int) -> int | None:
    """The tokens asked for, where rounding up to whole steps made `tokens` of them; None where nothing was rounded."""
    return training.tokens if 0 < tokens - training.tokens < training.batch_tokens else None


def learning_rate(training: Training, step: int) -> float:
    """Learning rate of step `step` (from 0) of a round."""
    steps, warmup = steps_of(training), training.warmup_tokens // training.batch_tokens
    if step < warmup:
        return training.peak_lr * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return training.peak_lr * (training.final_lr + (1 - training.final_lr) * _shape(training, done))


def of_steps(training: Training, steps: int) -> Training:
    """The same training over another number of steps."""
    return training.model_copy(update={"tokens": steps * training.batch_tokens})


def falling(training: Training, fall: RateFall) -> Training:
    """A `wsd` training whose learning rate falls from step `fall.step` of the round on, over `fall.steps` steps."""
    batch, end = training.batch_tokens, fall.step + fall.steps
    share = fall.steps / (end - training.warmup_tokens // batch)
    return training.model_copy(update={"tokens": end * batch, "decay_share": share})


def steps_before_fall(training: Training) -> int:
    """Number of steps of a `wsd` round before its learning rate falls; every longer round begins with the same ones."""
    steps, warmup = steps_of(training), training.warmup_tokens // training.batch_tokens
    return bisect_left(range(steps), True, lo=warmup, key=lambda step: learning_rate(training, step) < training.peak_lr)


def _shape(training: Training, done: float) -> float:
    match training.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1 - done
        case "cosine":
            return (1 + math.cos(math.pi * done)) / 2
        case "wsd":
            return min(1.0, (1 - done) / training.decay_share)
