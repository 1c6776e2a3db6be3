"""Tokens per second of a training step, ours beside nanoGPT's loop and the HF Trainer, on the same model, batch and data.

    python benchmarks/training.py --shape gpt2      # 4 x 768, T 512, vocabulary 50,304, 8 sequences a step
    python benchmarks/training.py --shape laptop    # 24 x 48, T 256, vocabulary 4,096, 16 sequences a step

All start from the same weights, see the same batches and step with AdamW (no decay, clip 1, constant rate), so that their
losses lie over each other. They take turns, one turn a round; medians over rounds. The peers are `training_peers.py`.
`--cpu-time` counts the process's CPU seconds instead of the wall's: for a machine that computes something else besides.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import transformers
from torch import Tensor, nn
from training_peers import HFTrainer, NanoGPT
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from inheritune.blocks.flops import forward_flops_per_token
from inheritune.config import Training
from inheritune.data.batches import Batches
from inheritune.data.tokens import Tokens
from inheritune.runtime.memory import keep_freed_memory
from inheritune.training.objective import Objective
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
    """One way of training, and what its steps took and gave."""

    name: str
    step: Callable[[Tensor], float]
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


class Ours:
    """A step as `training/loop.py` does it."""

    def __init__(self, model: PreTrainedModel, shape: Shape, precision: str):
        self.model, tokens = model, shape.sequences * shape.length
        self.training = Training(
            tokens=tokens, batch_tokens=tokens, micro_batch_size=shape.micro, precision=precision, weight_decay=0.0
        )
        self.objective, self.optimizer = Objective(model, self.training), Optimizer(model, self.training)

    def __call__(self, batch_BT: Tensor) -> float:
        loss = self.objective.backward(batch_BT, batch_BT[:, 1:].numel())["loss"]
        float(nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip))
        self.optimizer.step(RATE)
        return loss


def contestants(shape: Shape, precision: str, chosen: str, clock: Callable[[], float]) -> list[Contestant]:
    """Who takes part, from the same weights."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "gpt2", vocab_size=shape.vocabulary, n_positions=shape.length, n_embd=shape.width, n_layer=shape.blocks,
        n_head=shape.heads, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_function="gelu_pytorch_tanh",
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    start = AutoModelForCausalLM.from_config(config)
    micro, whole = shape.micro, shape.sequences
    ways: dict[str, Callable[[], Callable[[Tensor], float]]] = {
        "ours": lambda: Ours(copy.deepcopy(start), shape, precision),
        "nanoGPT, as shipped: fp32, model compiled": lambda: NanoGPT(start, whole, "fp32", compiled=True),
        f"nanoGPT, {precision}, eager": lambda: NanoGPT(start, micro, precision, compiled=False),
        f"nanoGPT, {precision}, model compiled": lambda: NanoGPT(start, micro, precision, compiled=True),
        f"HF Trainer, {precision}, eager": lambda: HFTrainer(
            copy.deepcopy(start), whole, precision, compiled=False, clock=clock
        ),
        f"HF Trainer, {precision}, blocks compiled": lambda: HFTrainer(
            copy.deepcopy(start), micro, precision, compiled=True, clock=clock
        ),
    }
    return [Contestant(name, make()) for name, make in ways.items() if name == "ours" or chosen in name]


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="gpt2")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1, help="steps of a turn")
    parser.add_argument("--only", default="", help="ours, and peers whose name holds this")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    keep_freed_memory()
    shape, clock = SHAPES[arguments.shape], time.process_time if arguments.cpu_time else time.perf_counter
    ids = torch.randint(shape.vocabulary // 8, (4_000_000,), generator=torch.Generator().manual_seed(1)).numpy()
    batches = Batches(Tokens(ids, ids[:1] * 0), 0, shape.sequences, shape.length)
    racing = contestants(shape, arguments.precision, arguments.only, clock)
    for index in range(1 + arguments.rounds * arguments.steps):
        batch_BT = torch.from_numpy(batches[index])
        for one in racing:
            began = clock()
            one.losses.append(one.step(batch_BT))
            timed = getattr(one.step, "timed", None)
            one.seconds.append(timed.seconds if timed else clock() - began)
    tell(racing, shape, arguments)


def tell(racing: list[Contestant], shape: Shape, arguments: argparse.Namespace) -> None:
    """The table, the first step (compilation) apart."""
    flops = 3 * forward_flops_per_token(racing[0].step.model, shape.length) * shape.sequences * shape.length  # type: ignore[attr-defined]
    print(f"{shape}\ntorch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} thread(s),"
          f" {'CPU' if arguments.cpu_time else 'wall'} time, medians of {len(racing[0].seconds) - 1} steps\n")  # fmt: skip
    print("| | tokens/s | GFLOP/s | slower than ours | first step, s | losses |\n|---|---|---|---|---|---|")
    ours = statistics.median(racing[0].seconds[1:])
    for one in racing:
        step = statistics.median(one.seconds[1:])
        losses = " ".join(f"{loss:.4f}" for loss in one.losses[:: max(1, len(one.losses) // 4)])
        print(f"| {one.name} | {shape.sequences * shape.length / step:,.0f} | {flops / step / 1e9:.0f} | {step / ours:.2f}x"
              f" | {one.seconds[0]:.1f} | {losses} |")  # fmt: skip


if __name__ == "__main__":
    main()
