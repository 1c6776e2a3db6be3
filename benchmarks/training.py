"""Tokens per second of a training step, ours beside nanoGPT's loop and the HF Trainer, on the same model, batch and data.

    python benchmarks/training.py                              # both shapes, half a batch, 5 rounds: below 6 minutes
    python benchmarks/training.py --no-quick --shapes gpt2     # 4 x 768, T 512, vocabulary 50,304, 8 sequences a step
    python benchmarks/training.py --no-quick --shapes laptop   # 24 x 48, T 256, vocabulary 4,096, 16 sequences a step
    python benchmarks/training.py --nanogpt ../nanoGPT         # nanoGPT's own model.py, not one written after it

All start from the same weights, see the same batches and step with AdamW (no decay, clip 1, constant rate), so that their
losses should agree; the largest distance from ours is printed. They take turns, one turn a round; times are medians over rounds.
The peers are in `training_peers.py`; one whose first step fails, or takes longer than `--patience` (it compiles), is left out,
and that is printed. `--cpu-time` counts the process's CPU seconds instead of wall time, for a machine that is busy otherwise.
"""

import argparse
import copy
import logging
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from training_peers import HFTrainer, NanoGPT
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inheritune.config.sections import Training
from inheritune.data.batches import Batches
from inheritune.data.tokens import Tokens
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.runtime.memory import keep_freed_memory
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer

RATE = 3e-4


@dataclass(frozen=True)
class Shape:
    """Blocks, width, heads, positions, vocabulary, sequences of a step and of a micro-batch."""

    blocks: int
    width: int
    heads: int
    length: int
    vocabulary: int
    sequences: int
    micro: int


SHAPES = {"gpt2": Shape(4, 768, 12, 512, 50304, 8, 4), "laptop": Shape(24, 48, 3, 256, 4096, 16, 8)}


@dataclass
class Contestant:
    """One way of training, with the seconds and the losses of its steps."""

    name: str
    step: Callable[[Tensor], float]
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def turn(self, batch_BT: Tensor, clock: Callable[[], float]) -> None:
        """Take one step; its time is the step's own where it keeps one (`timed`)."""
        began = clock()
        self.losses.append(self.step(batch_BT))
        timed = getattr(self.step, "timed", None)
        self.seconds.append(timed.seconds if timed else clock() - began)


class Ours:
    """A step as `training/loop.py` takes it."""

    def __init__(self, model: PreTrainedModel, shape: Shape, precision: str):
        self.model, tokens = model, shape.sequences * shape.length
        self.training = Training(
            tokens=tokens, batch_tokens=tokens, micro_batch_size=shape.micro, precision=precision, weight_decay=0.0
        )
        self.objective, self.optimizer = TrainingLoss(model, self.training), Optimizer(model, self.training)

    def __call__(self, batch_BT: Tensor) -> float:
        loss = self.objective.backward(batch_BT, batch_BT[:, 1:].numel())["loss"]
        float(nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip))
        self.optimizer.step(RATE)
        return loss


def contestants(
    shape: Shape, precision: str, chosen: str, clock: Callable[[], float], nanogpt: Path | None = None
) -> list[Contestant]:
    """Ours and the peers with `chosen` in their names, from the same weights; with `nanogpt`, a checkout, the activation is its exact GELU."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt2", vocab_size=shape.vocabulary, n_positions=shape.length, n_embd=shape.width, n_layer=shape.blocks,
        n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu" if nanogpt else "gelu_pytorch_tanh",
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    start = AutoModelForCausalLM.from_config(config)
    micro, whole = shape.micro, shape.sequences
    ways: dict[str, Callable[[], Callable[[Tensor], float]]] = {
        "ours": lambda: Ours(copy.deepcopy(start), shape, precision),
        "nanoGPT, as shipped: fp32, model compiled": lambda: NanoGPT(start, nanogpt, whole, "fp32", compiled=True),
        "nanoGPT, as shipped but eager, fp32": lambda: NanoGPT(start, nanogpt, whole, "fp32", compiled=False),
        f"nanoGPT, {precision}, eager": lambda: NanoGPT(start, nanogpt, micro, precision, compiled=False),
        f"nanoGPT, {precision}, model compiled": lambda: NanoGPT(start, nanogpt, micro, precision, compiled=True),
        f"HF Trainer, {precision}, eager": lambda: HFTrainer(
            copy.deepcopy(start), whole, precision, compiled=False, clock=clock
        ),
        f"HF Trainer, {precision}, blocks compiled": lambda: HFTrainer(
            copy.deepcopy(start), micro, precision, compiled=True, clock=clock
        ),
    }
    return [Contestant(name, make()) for name, make in ways.items() if name == "ours" or chosen in name]


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the block once it has taken `seconds`."""

    def over(*_: Any) -> None:
        raise TimeoutError(f"not done in {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, 2)  # repeated: an error raised within a callback is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def started(racing: list[Contestant], batch_BT: Tensor, patience: int, clock: Callable[[], float]) -> list[Contestant]:
    """The contestants whose first step, compilation included, comes to an end; for the others the reason is printed."""
    there = []
    for one in racing:
        try:
            with at_most(patience):
                one.turn(batch_BT, clock)
            there.append(one)
        except Exception as error:  # whatever a compiler raises
            print(
                f"left out: {one.name}: {type(error).__name__}: {(str(error).splitlines() or [''])[0][:120]}",
                flush=True,
            )
    return there


def race(name: str, arguments: argparse.Namespace) -> None:
    """Run all rounds at a shape, and print their table."""
    shape = SHAPES[name]
    if arguments.quick:
        shape = replace(shape, sequences=shape.sequences // 2)
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    ids = torch.randint(shape.vocabulary // 8, (4_000_000,), generator=torch.Generator().manual_seed(1)).numpy()
    batches = Batches(Tokens(ids, ids[:1] * 0), 0, shape.sequences, shape.length)
    racing = contestants(shape, arguments.precision, arguments.only, clock, arguments.nanogpt)
    racing = started(racing, torch.from_numpy(batches[0]), arguments.patience, clock)
    for round_ in range(arguments.rounds):
        for one in racing[round_ % len(racing) :] + racing[: round_ % len(racing)]:  # each is first in its turn
            for step in range(arguments.steps):
                one.turn(torch.from_numpy(batches[1 + round_ * arguments.steps + step]), clock)
    tell(racing, shape, arguments)


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--quick", action=argparse.BooleanOptionalAction, default=True, help="half a batch a step")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--only", default="", help="ours, and peers whose name holds this")
    parser.add_argument("--patience", type=int, default=45, help="seconds of a first step")
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--nanogpt", type=Path, help="a checkout of nanoGPT, whose own model then takes part")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a compiler that is cut off logs pages
    keep_freed_memory()
    for name in arguments.shapes:
        race(name, arguments)


def tell(racing: list[Contestant], shape: Shape, arguments: argparse.Namespace) -> None:
    """Print the table; the first step (compilation) has a column of its own."""
    flops = 3 * forward_flops_per_token(racing[0].step.model, shape.length) * shape.sequences * shape.length  # type: ignore[attr-defined]
    print(f"{shape}\ntorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} thread(s),"
          f" {'CPU' if arguments.cpu_time else 'wall'} time, medians of {len(racing[0].seconds) - 1} steps\n")  # fmt: skip
    print(
        "| | tokens/s | GFLOP/s | slower than ours | least, most | first step, s | losses, first and last | furthest from ours |"
    )
    print("|---|---|---|---|---|---|---|---|")
    ours = statistics.median(racing[0].seconds[1:])
    for one in racing:
        step, (*_, last), off = statistics.median(one.seconds[1:]), one.losses, _furthest(one.losses, racing[0].losses)
        ratios = [took / own for took, own in zip(one.seconds[1:], racing[0].seconds[1:], strict=True)]
        print(f"| {one.name} | {shape.sequences * shape.length / step:,.0f} | {flops / step / 1e9:.0f} | {step / ours:.2f}x"
              f" | {min(ratios):.2f}, {max(ratios):.2f} | {one.seconds[0]:.1f} | {one.losses[0]:.4f} {last:.4f} | {off:.4f} |", flush=True)  # fmt: skip
    print()


def _furthest(losses: list[float], others: list[float]) -> float:
    return max(abs(loss - other) for loss, other in zip(losses, others, strict=True))


if __name__ == "__main__":
    main()
