"""The memory of a training step, by formula: for the guard before the first step, a plan, and `docs/scale.md`.

All numbers are bytes of one process, and lower bounds: what libraries keep for themselves, and fragmentation, come on top.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy, embedding_rows, text_config
from inheritune.training.kernels import chunk_logits

# Tensors of the hidden state's size that a block keeps until the backward pass: its input, and roughly eight inside, which are the two
# norms, queries, keys, values, the attention's output, and the inside of the MLP.
_INPUT, _INSIDE = 1, 8


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one process holds in a training step of the target.

    `added` is the largest gradient a second time, while it is added to the sum so far: with a large vocabulary as much as many blocks.
    `rounded` is the matrices a second time, in bf16, where autocast is on: autograd keeps them until the backward pass.
    """

    weights: int
    gradients: int
    states: int
    activations: int
    logits: int
    added: int
    rounded: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.beside_weights + self.weights

    @property
    def beside_weights(self) -> int:
        """All but the weights: what a step needs on top of a loaded model."""
        return self.gradients + self.added + self.states + self.activations + self.logits + self.rounded


def step_memory(
    model: PreTrainedModel,
    training: Training,
    length: int,
    *,
    share: int = 1,
    blocks: Sequence[int] | None = None,
    on: torch.device | None = None,
) -> StepMemory:
    """Return the memory of a step on sequences of `length`; `model` may be on the meta device, `on` is the one to train on (None: its own).

    `share` is the number of processes that weights, gradients and states are spread over (`fsdp`; 1: each process holds all). When spread,
    blocks are gathered one at a time, and what is outside the blocks stays gathered. With `blocks`, `model` counts as cut to these blocks.
    """
    weights, trained, own = _bytes(model, blocks), _bytes(model, blocks, trained=True), anatomy(model).blocks
    gathered = 0 if share == 1 else max(map(_own_bytes, own)) + _own_bytes(model) - _own_bytes(own)
    kept = range(len(own)) if blocks is None else blocks
    depth = len(kept)
    return StepMemory(
        weights=weights // share + gathered,
        gradients=trained // share,
        states=2 * trained // share,
        activations=activation_bytes(model, training, length, depth),
        logits=logit_bytes(model, training, length, on or model.device),
        added=max((p.numel() * p.element_size() for p in model.parameters() if p.requires_grad), default=0),
        rounded=rounded_bytes(model, training, [own[block] for block in kept] if share == 1 else []),
    )


def activation_bytes(model: PreTrainedModel, training: Training, length: int, depth: int) -> int:
    """Bytes that `depth` blocks keep of a micro-batch for its backward pass; with `checkpoint_activations` their inputs and one's inside."""
    tokens, width = training.micro_batch_size * length, text_config(model.config).hidden_size
    inside = 1 if training.checkpoint_activations else depth
    return tokens * width * _number(training) * (depth * _INPUT + inside * _INSIDE)


def logit_bytes(model: PreTrainedModel, training: Training, length: int, on: torch.device) -> int:
    """Bytes of the logits in memory at once: no more than a chunk of the rows, where the head is `apart`, as almost all are.

    In bf16 there is a copy in fp32 for the losses: of a whole chunk on a GPU, of a few rows on the CPU, which are not counted.
    """
    numbers = training.micro_batch_size * length * embedding_rows(model)
    widened = 4 if training.precision == "bf16" and on.type not in ("cpu", "meta") else 0
    return (_number(training) + widened) * min(numbers, chunk_logits(on))


def rounded_bytes(model: PreTrainedModel, training: Training, blocks: Iterable[nn.Module]) -> int:
    """Bytes of the bf16 copies of these blocks' and the head's matrices; a sharded model gathers its blocks in bf16, one at a time."""
    outside = _products(model) - _products(anatomy(model).blocks)
    return 2 * (outside + sum(map(_products, blocks))) if training.precision == "bf16" else 0


def _products(module: nn.Module) -> int:
    """How many numbers the matrices in a module hold."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear | Conv1D))


def _number(training: Training) -> int:
    return 2 if training.precision == "bf16" else 4


def _bytes(model: PreTrainedModel, blocks: Sequence[int] | None, trained: bool = False) -> int:
    """Bytes of a model's weights, or of the trained ones alone; with `blocks`, of the model cut to these blocks."""
    whole, own = _own_bytes(model, trained), anatomy(model).blocks
    if blocks is None:
        return whole
    return whole - _own_bytes(own, trained) + sum(_own_bytes(own[block], trained) for block in blocks)


def _own_bytes(module: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad or not trained)
