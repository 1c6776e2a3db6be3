"""How fast a machine trains and reads: the share of its matrix-product rate that a model reaches, assumed or measured."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
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

_TRAINING, _READING = 0.4, 0.6  # shares of the matrix-product rate, assumed where nothing was measured
# Shares of a data sheet's rate reached in training: what plans assume, and what a roofline gave before anything was made faster
# (docs/results/gpu.md).
SHARES_OF_SHEET = (_TRAINING, 0.16)
_UPDATE = 20.0  # FLOPs per parameter that take as long, at the training share, as the optimizer's update of it
_FEWEST_TOKENS = 64
_MOST_TRIED = 1 << 29  # parameters: 8 GB with gradients and states


@dataclass(frozen=True)
class ReachedRate:
    """FLOP/s reached in training steps and in forward passes.

    `reading` is in passes at the training's precision (validation, a teacher), `measuring` in fp32 passes (all measurements). `update` is
    the optimizer's seconds per parameter; `tried` says that all were measured on this machine.
    """

    training: float
    reading: float
    measuring: float
    update: float
    tried: bool = False


def assumed(matrix_rate: float, fp32_rate: float) -> ReachedRate:
    """The rates of a machine of which only the FLOP/s of large matrix products are known, at the training's precision and in fp32."""
    training = _TRAINING * matrix_rate
    return ReachedRate(training, _READING * matrix_rate, _READING * fp32_rate, _UPDATE / training)


def tried(
    config: PretrainedConfig, training: Training, length: int, matrix_rate: float, seconds: float = 8.0
) -> ReachedRate:
    """Measure this machine's rates by micro-batches on random weights of a config: half of `seconds` for training, half for passes.

    In bf16 passes are timed in both precisions, for half of `seconds` each.

    A model too large for the machine's memory is measured with as many blocks as fit. One too slow for so many seconds, judged by the
    matrix-product rate, is measured on fewer tokens at once and on half of these, so that what is written once per micro-batch, such as
    the gradient of a large vocabulary, is not taken for a cost of each token.
    """
    model = fresh(config, _depth_that_fits(config, training), 0).train().to(device())  # type: ignore[arg-type]
    step = token_flops(model, training, length) / (_TRAINING * matrix_rate)
    rows, width = _tokens_at_once(training.micro_batch_size, length, seconds / 4 / step)
    whole, ids_BT = training.micro_batch_size * length, torch.zeros(rows, width + 1, dtype=torch.long, device=device())
    loss, optimizer = TrainingLoss(model, training, Objective()), Optimizer(model, training)

    def learn(ids_BT: Tensor) -> None:
        model.zero_grad()  # as each step does: a CUDA graph is recorded only without gradients
        loss.backward(ids_BT, ids_BT[:, 1:].numel())

    if loss.replay:
        learn(ids_BT)  # the second call records the graph, and is no typical step either: `_middle` leaves that one out
    step = _extended(learn, ids_BT, whole, seconds / 2)
    update = _middle(lambda: optimizer.step(0.0), 0.0)
    model.zero_grad()

    def passing() -> float:
        took = _extended(lambda ids_BT: model(input_ids=ids_BT[:, :-1], use_cache=False), ids_BT, whole, seconds / 2)
        return whole * forward_flops_per_token(model, length) / took

    with evaluating(model):
        measuring = reading = passing()
        if training.precision == "bf16":
            with autocast(training.precision, device()):
                reading = passing()
    return ReachedRate(
        training=whole * token_flops(model, training, length) / step, reading=reading, measuring=measuring,
        update=update / parameter_count(model), tried=True,
    )  # fmt: skip


def _extended(work: Callable[[Tensor], object], ids_BT: Tensor, whole: int, seconds: float) -> float:
    """Seconds that `work` takes for `whole` tokens, by those for `ids_BT` (B, T + 1) and, where that has fewer tokens, for half of it."""
    tokens, took = ids_BT[:, 1:].numel(), _middle(lambda: work(ids_BT), seconds)
    if tokens >= whole:
        return took
    fewer_BT = ids_BT[:, : ids_BT.shape[1] // 2 + 1]
    half, left_out = _middle(lambda: work(fewer_BT), 0.0), tokens - fewer_BT[:, 1:].numel()
    each = max((took - half) / left_out, took / tokens / 4)  # a floor: the difference of two close times says little
    return took + each * (whole - tokens)


def _tokens_at_once(rows: int, length: int, most: float) -> tuple[int, int]:
    """Number and length of rows that hold at most `most` tokens: whole rows, or a part of one, long enough for full-speed products."""
    if most >= length:
        return min(rows, int(most // length)), length
    return 1, min(length, max(_FEWEST_TOKENS, int(most)))


def _depth_that_fits(config: PretrainedConfig, training: Training) -> int:
    """Depth of the deepest model of a config whose weights, gradients and states take at most half of the free memory."""
    most, depth = min(_MOST_TRIED, gauge.free_memory(device()) // 32), depth_of(config)
    one, two = (parameter_count(hollow(cut_config(config, range(blocks)))) for blocks in (1, min(2, depth)))
    return max(1, min(depth, 1 + (most - one) // max(1, two - one)))


def _middle(work: Callable[[], object], seconds: float) -> float:
    """Median seconds that `work` takes: after one run to warm up, as many as fit into `seconds`, and at least one."""
    work()
    took: list[float] = []
    end = time.perf_counter() + seconds
    while not took or time.perf_counter() < end:
        began = time.perf_counter()
        work()
        if device().type == "cuda":
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
