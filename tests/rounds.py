"""A round of training on random tokens, for tests of the loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tiny import untrained_model
from transformers import PreTrainedModel

from inheritune.config.sections import Objective, Training
from inheritune.data.batches import Batches
from inheritune.data.tokens import Tokens
from inheritune.records.rows import StepDone
from inheritune.records.stages import Position
from inheritune.training.loop import Loop, train_to_end

LENGTH, BATCH = 16, 8
KINDS = 17  # tokens that occur, all below the vocabulary's 320, so that ln 17 is the least loss


def training(**changes: Any) -> Training:
    fields = {"tokens": 8 * BATCH * LENGTH, "batch_tokens": BATCH * LENGTH, "micro_batch_size": 4, "peak_lr": 3e-3}
    return Training(**{**fields, "evaluate_every": 3, "checkpoint_every": 2, **changes})


def batches(seed: int = 0) -> Batches:
    ids = np.random.Generator(np.random.Philox(key=[11, 0])).integers(1, KINDS + 1, 2000) ** 2
    return Batches(Tokens(ids, np.array([0])), seed, BATCH, LENGTH)


def train_round(
    folder: Path,
    model: PreTrainedModel | None = None,
    observe: Callable[[dict[str, Any]], None] = lambda row: None,
    evaluate: Callable[[PreTrainedModel, Position], object] = lambda model, position: None,
    resume: Callable[[Position], None] = lambda position: None,
    say: Callable[[str], None] = lambda sentence: None,
    wanted: Objective | None = None,
    teacher: PreTrainedModel | None = None,
    extensible: bool = False,
    matrix_rate: float | None = None,
    **changes: Any,
) -> tuple[PreTrainedModel, Position]:
    """Train the tiny GPT-2 (or `model`) for eight steps, with dropout so that random state matters; `observe` hears the rows."""
    model = model or untrained_model("gpt2", resid_pdrop=0.1)

    def told(step: StepDone) -> None:
        done = {"round": 1, "depth": 1, "step": step.step, "tokens": step.tokens, "flops": step.flops}
        observe(step.row(done).model_dump(exclude_unset=True))

    round_ = Loop(
        training=training(**changes), batches=batches(), first_batch=0, checkpoints=folder, observe=told,
        evaluate=evaluate, resume=resume, say=say, wanted=wanted, teacher=teacher, extensible=extensible,
        matrix_rate=matrix_rate,
    )  # fmt: skip
    return model, train_to_end(model, round_)
