"""The one training loop: a round of optimizer steps on a fixed order of batches, for targets, references and controls.

It knows no growth, no reference and no stopping rule. A round continues from its newest whole checkpoint to the same bits.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from inheritune.config import Training
from inheritune.data.batches import Batches
from inheritune.errors import Interrupted, TrainingError
from inheritune.runtime import stop
from inheritune.runtime.device import device
from inheritune.training import checkpoint
from inheritune.training.checkpoint import Position
from inheritune.training.objective import Objective
from inheritune.training.optimizer import Optimizer
from inheritune.training.schedule import learning_rate, steps_of


@dataclass
class Round:
    """What a round trains on and where it reports.

    `observe(row)` is told of each step, `evaluate(model, position)` is called now and then, and `resume(position)` once
    a checkpoint is loaded, so that what was written after it can be dropped.
    """

    training: Training
    batches: Batches
    first_batch: int
    checkpoints: Path
    observe: Callable[[dict[str, Any]], None]
    evaluate: Callable[[PreTrainedModel, Position], None]
    resume: Callable[[Position], None]


def train(model: PreTrainedModel, round_: Round) -> Position:
    """Train `model` to the end of the round, from the round's newest checkpoint if there is one.

    Raises TrainingError at a loss that is not finite, and Interrupted after a signal, each with the last checkpoint kept.
    """
    optimizer, position = Optimizer(model, round_.training), Position()
    objective = Objective(model, round_.training)
    if place := checkpoint.latest(round_.checkpoints):
        state, position = checkpoint.load(place, model)
        optimizer.load_state(state)
        round_.resume(position)
    last = steps_of(round_.training)
    model.train()
    with stop.on_request() as asked:
        while position.step < last:
            row = _step(model, optimizer, objective, round_, position)
            round_.observe(row)
            due = position.step % round_.training.evaluate_every == 0
            if due and position.step < last:
                round_.evaluate(model, position)
            if position.step % round_.training.checkpoint_every == 0 or position.step == last or asked.code:
                checkpoint.save(round_.checkpoints, model, optimizer.state(), position)
            if asked.code and position.step < last:
                raise Interrupted(position.step, asked.code)
    return position


def _step(
    model: PreTrainedModel, optimizer: Optimizer, objective: Objective, round_: Round, position: Position
) -> dict[str, Any]:
    """One optimizer step; moves the position on and returns what happened."""
    began, index, training = time.perf_counter(), round_.first_batch + position.step, round_.training
    batch = torch.from_numpy(round_.batches[index]).to(device())
    tokens = batch[:, 1:].numel()
    loss = objective.backward(batch, tokens)["loss"]
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), training.clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        kept = checkpoint.latest(round_.checkpoints)
        raise TrainingError(
            f"the loss is {loss} and the gradient's norm {norm} at step {position.step + 1} of the round (batch {index});"
            f" the last good checkpoint is {str(kept) if kept else 'none'}: a lower training.peak_lr usually helps"
        )
    rate = learning_rate(training, position.step)
    optimizer.step(rate)
    seconds = time.perf_counter() - began
    position.step += 1
    position.tokens += tokens
    position.flops += tokens * objective.flops_per_token(round_.batches.length) + optimizer.flops_per_step
    position.seconds += seconds
    return {
        "loss": loss,
        "lr": rate,
        "grad_norm": norm,
        "tokens_per_second": round(tokens / seconds),
        **_spent(position),
    }


def _spent(position: Position) -> dict[str, Any]:
    return {"step": position.step, "tokens": position.tokens, "flops": position.flops}
