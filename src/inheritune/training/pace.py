"""How fast a machine trains and reads: what part of its matrix products' rate a model reaches, assumed or tried."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PretrainedConfig

from inheritune.config.sections import Objective, Training
from inheritune.decoder.anatomy import depth_of
from inheritune.decoder.costs import forward_flops_per_token, parameter_count
from inheritune.decoder.layerlists import cut_config
from inheritune.decoder.stack import evaluating
from inheritune.models.hollow import hollow
from inheritune.runtime import gauge
from inheritune.runtime.device import autocast, device
from inheritune.surgery.in_memory import fresh
from inheritune.training.costs import token_flops
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer

_TRAINING, _READING = 0.4, 0.6  # of the rate of matrix products, where nothing was tried
_UPDATE = 20.0  # FLOPs a parameter that take as long as an optimizer's update of it, at that share
_FEWEST_TOKENS = 64
_MOST_TRIED = 1 << 29  # parameters: 8 GB with gradients and states


@dataclass(frozen=True)
class ReachedRate:
    """FLOP/s reached in training steps, in passes at the training's precision (validation, a teacher) and in passes in fp32 (all that measures).

    `update` is the seconds that an optimizer takes a parameter; `tried` on this machine.
    """

    training: float
    reading: float
    measuring: float
    update: float
    tried: bool = False


def assumed(matrix_rate: float, fp32_rate: float) -> ReachedRate:
    """The pace of a machine of which the FLOP/s of large matrix products are known, at the training's precision and in fp32."""
    training = _TRAINING * matrix_rate
    return ReachedRate(training, _READING * matrix_rate, _READING * fp32_rate, _UPDATE / training)


def tried(
    config: PretrainedConfig, training: Training, length: int, matrix_rate: float, seconds: float = 8.0
) -> ReachedRate:
    """The pace of this machine on random weights of a config, by micro-batches: half of `seconds` for training, half for passes.

    A model that is too large for the machine's memory is tried with as many blocks as fit, and one that is too slow for so
    many seconds, by the rate of its matrix products, on fewer tokens at once.
    """
    model = fresh(config, _depth_that_fits(config, training), 0).to(device())  # type: ignore[arg-type]
    step = token_flops(model, training, length) / (_TRAINING * matrix_rate)
    rows, length = _tokens_at_once(training.micro_batch_size, length, seconds / 4 / step)
    ids_BT = torch.zeros(rows, length + 1, dtype=torch.long, device=device())
    loss, optimizer = TrainingLoss(model, training, Objective()), Optimizer(model, training)
    labels = ids_BT[:, 1:].numel()
    step = _best(lambda: loss.backward(ids_BT, labels), seconds / 2)
    update = _best(lambda: optimizer.step(0.0), 0.0)
    model.zero_grad()
    passed = labels * forward_flops_per_token(model, length)
    with evaluating(model):
        measuring = reading = passed / _best(lambda: model(input_ids=ids_BT[:, :-1], use_cache=False), seconds / 2)
        if training.precision == "bf16":
            with autocast(training.precision, device()):
                reading = passed / _best(lambda: model(input_ids=ids_BT[:, :-1], use_cache=False), seconds / 2)
    return ReachedRate(
        training=labels * token_flops(model, training, length) / step, reading=reading, measuring=measuring,
        update=update / parameter_count(model), tried=True,
    )  # fmt: skip


def _tokens_at_once(rows: int, length: int, most: float) -> tuple[int, int]:
    """Rows and their length of at most so many tokens: whole rows, or a part of one that is still worth a product."""
    if most >= length:
        return min(rows, int(most // length)), length
    return 1, min(length, max(_FEWEST_TOKENS, int(most)))


def _depth_that_fits(config: PretrainedConfig, training: Training) -> int:
    """The deepest model of a config whose weights, gradients and states take half of the free memory at most."""
    most, depth = min(_MOST_TRIED, gauge.free_memory(device()) // 32), depth_of(config)
    one, two = (parameter_count(hollow(cut_config(config, range(blocks)))) for blocks in (1, min(2, depth)))
    return max(1, min(depth, 1 + (most - one) // max(1, two - one)))


def _best(work: Callable[[], object], seconds: float) -> float:
    """The least time that a piece of work takes: after one to warm up, as many as `seconds` hold, and one at least."""
    work()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)
