"""Checks that keep a run from failing late: room on the disk and in memory before it, a diverging loss during it."""

from collections import deque
from pathlib import Path
from statistics import fmean

import torch
from transformers import PreTrainedModel

from inheritune.config.sections import Training
from inheritune.disk.folders import SPARE, free_bytes
from inheritune.errors import OutputError, RecipeError, TrainingError
from inheritune.runtime import gauge, processes
from inheritune.runtime.memory import ran_out
from inheritune.training import checkpoint
from inheritune.training.kernels import is_to_compile, lacks_to_compile
from inheritune.training.memory import step_memory

_STATES = 2  # numbers an optimizer keeps for each weight, at most
_RECENT = 16  # steps whose mean loss is looked at
_SLOWER = 1.5  # times slower, from which on a warning is given
_RISE = 0.5  # nats per token above the best mean so far: more is no noise


def require_disk(folder: Path, model: PreTrainedModel, kept: int) -> None:
    """Raise OutputError where the disk has no room for a round's checkpoints: `kept`, and the one being written."""
    held = sum(path.stat().st_size for path in folder.rglob("*.safetensors"))
    needed, free = (kept + 1) * checkpoint.checkpoint_bytes(model, _STATES) - held, free_bytes(folder)
    if free < needed:
        raise OutputError(
            f"the checkpoints in {str(folder)!r} need {(needed + SPARE) / 1e9:.2f} GB, and the disk has {(free + SPARE) / 1e9:.2f} GB free:"
            " free some, name another disk with --out, or keep fewer (training.checkpoints_kept)"
        )


def require_shares(training: Training, sequences: int, parallel: str) -> None:
    """Raise RecipeError where a batch of `sequences` cannot be shared among the processes."""
    count = processes.count()
    if sequences < count or (parallel == "fsdp" and sequences % count):
        raise RecipeError(
            f"a batch has {sequences} sequences (training.batch_tokens by data.sequence_length), which {count} processes"
            " cannot share evenly: start another number of processes, or change training.batch_tokens in a new run"
        )


def slow_bf16(training: Training, on: torch.device) -> str | None:
    """Return a warning where bf16 is asked for on a CPU whose bf16 products are slower than its fp32 ones; else None."""
    if training.precision != "bf16" or on.type != "cpu" or (times := gauge.bf16_slowness()) < _SLOWER:
        return None
    return f"Warning: bf16 products are {times:.1f} times slower than fp32's on this CPU: training.precision=fp32 in a new run"


def not_compiled(training: Training) -> str | None:
    """Return a warning where a training is to be compiled and this machine lacks what that needs; else None."""
    missing = lacks_to_compile()
    if missing is None or not is_to_compile(training):
        return None
    return f"Warning: nothing is compiled, which makes steps slower: this machine has a GPU and lacks {missing}"


def require_training_memory(model: PreTrainedModel, training: Training, length: int, parallel: str) -> None:
    """Raise TrainingError where memory is too small for the first step: gradients, optimizer, and at least one micro-batch.

    All processes decide alike, by the least free memory of any; each counts its own share of what `fsdp` spreads over them.
    """
    share = processes.count() if parallel == "fsdp" else 1
    needed = step_memory(model, training, length, share=share).beside_weights
    free = int(processes.least(gauge.free_memory(model.device)))
    if free < needed:
        raise TrainingError(_proposal(f"a step needs at least {needed / 1e9:.2f} GB beside the weights, and"
                                      f" {free / 1e9:.2f} GB are free", training))  # fmt: skip


def whole_gradients_fit(model: PreTrainedModel, training: Training, length: int) -> bool:
    """Whether each process of a sharded model can hold unsharded gradients until a step's end, so that they are summed only once."""
    share = processes.count()
    rest = step_memory(model, training, length, share=share)
    return rest.beside_weights + (share - 1) * rest.gradients < processes.least(gauge.free_memory(model.device))


def out_of_memory(error: RuntimeError, training: Training) -> TrainingError | None:
    """Return the error that says what to do where memory ran out; None for an error of any other kind."""
    if ran_out(error):
        return TrainingError(_proposal("a step does not fit into memory", training))
    return None


def not_repeatable(error: RuntimeError) -> TrainingError | None:
    """Return the error that says what to do where a kernel has no deterministic form; None for an error of any other kind."""
    kernel, found, _ = str(error).partition(" does not have a deterministic implementation")
    if not found:
        return None
    return TrainingError(
        f"{kernel.split()[-1]!r} gives other bits each time on this GPU, and training.repeatable asks for the same ones:"
        " set training.repeatable=false, also to go on with this run"
    )


def _proposal(trouble: str, training: Training) -> str:
    smaller = max(1, training.micro_batch_size // 2)
    halve = f"training.micro_batch_size={smaller} (the result stays the same)" if training.micro_batch_size > 1 else ""
    again = "" if training.checkpoint_activations else "training.checkpoint_activations=true (a third more time)"
    ways = [way for way in (halve, again) if way] or ["a shorter data.sequence_length, or more processes"]
    return f"{trouble}: try {' or '.join(ways)}"


class Divergence:
    """Warns once where a round's training loss rises instead of falling."""

    def __init__(self) -> None:
        self.recent, self.best, self.said = deque[float](maxlen=_RECENT), float("inf"), False

    def told(self, loss: float) -> str | None:
        """Take a step's loss; return a warning where the mean of the last steps has risen well above its best, else None."""
        self.recent.append(loss)
        if len(self.recent) < _RECENT or self.said:
            return None
        mean = fmean(self.recent)
        self.best = min(self.best, mean)
        if mean < self.best + _RISE:
            return None
        self.said = True
        return (
            f"Warning: the training loss, {mean:.2f} over {_RECENT} steps, is {mean - self.best:.2f} above its best:"
            " this diverges; a lower training.peak_lr, or more training.warmup_tokens, usually helps"
        )
