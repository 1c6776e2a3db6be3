"""How fast a machine trains and reads: what part of its matrix products' rate a model reaches, assumed or tried."""

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

_TRAINING, _READING = 0.4, 0.6  # of the rate of matrix products, where nothing was tried
# Of a data sheet's rate in training: what plans go by, and what a roofline gave before anything was made faster (docs/results/gpu.md).
SHARES_OF_SHEET = (_TRAINING, 0.16)
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
    many seconds, by the rate of its matrix products, on fewer tokens at once, and on half of these: what is written once a
    micro-batch, such as the gradient of a large vocabulary, is not taken for a cost of each token.
    """
    model = fresh(config, _depth_that_fits(config, training), 0).train().to(device())  # type: ignore[arg-type]
    step = token_flops(model, training, length) / (_TRAINING * matrix_rate)
    rows, width = _tokens_at_once(training.micro_batch_size, length, seconds / 4 / step)
    whole, ids_BT = training.micro_batch_size * length, torch.zeros(rows, width + 1, dtype=torch.long, device=device())
    loss, optimizer = TrainingLoss(model, training, Objective()), Optimizer(model, training)

    def learn(ids_BT: Tensor) -> None:
        model.zero_grad()  # as each step does, before which a GPU records nothing
        loss.backward(ids_BT, ids_BT[:, 1:].numel())

    if loss.replay:
        learn(ids_BT)  # the second one records, and is not what a step takes either: `_middle` leaves the first out
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
    """What `work` takes for `whole` tokens, by what it takes for those of `ids_BT` (B, T + 1) and, where these are fewer, for half of them."""
    tokens, took = ids_BT[:, 1:].numel(), _middle(lambda: work(ids_BT), seconds)
    if tokens >= whole:
        return took
    fewer_BT = ids_BT[:, : ids_BT.shape[1] // 2 + 1]
    half, left_out = _middle(lambda: work(fewer_BT), 0.0), tokens - fewer_BT[:, 1:].numel()
    each = max((took - half) / left_out, took / tokens / 4)  # two times that are near each other say little
    return took + each * (whole - tokens)


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


def _middle(work: Callable[[], object], seconds: float) -> float:
    """The middle of the times that a piece of work takes: after one to warm up, as many as `seconds` hold, and one at least."""
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
