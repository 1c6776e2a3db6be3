"""What a training step takes of memory, by formula: the guard before the first step, a plan and `docs/scale.md` ask here.

Bytes of one process, and the least that they can be. What a library keeps for itself, and what lies unused between blocks of memory,
comes on top.
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

# Numbers of the hidden state's size that a block keeps for each token until the backward pass: its input, and beside it, about, the two
# norms, queries, keys, values, the attention's output, and the inside of the MLP.
_INPUT, _INSIDE = 1, 8


@dataclass(frozen=True)
class StepMemory:
    """Bytes that one process holds in a step, of the target and its training.

    `added` is the largest gradient once more, while it is added to what is there: of a large vocabulary, as much as many blocks.
    `rounded` are the matrices once more in bf16, where products are taken in it: autograd keeps them until the backward pass.
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
        """What comes on top of models that are loaded."""
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
    """The memory of a step on sequences of `length`; the weights of `model` need not be there, nor be `on` the device that is meant.

    `share` is over how many processes weights, gradients and states are spread (`fsdp`; 1: each process holds all). Then one block is
    gathered at a time, and what stands outside the blocks all along. With `blocks`, that of a cut of `model` that has only these blocks.
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
    """What a micro-batch keeps of `depth` blocks until its backward pass; under `checkpoint_activations` what enters each, and one's inside."""
    tokens, width = training.micro_batch_size * length, text_config(model.config).hidden_size
    inside = 1 if training.checkpoint_activations else depth
    return tokens * width * _number(training) * (depth * _INPUT + inside * _INSIDE)


def logit_bytes(model: PreTrainedModel, training: Training, length: int, on: torch.device) -> int:
    """The logits that stand in memory together: of a head that is taken apart, as almost all are, no more than a piece of the rows.

    Beside bf16 they stand in fp32 for their losses: on a GPU all of a piece, on the CPU a few rows, which are not counted.
    """
    numbers = training.micro_batch_size * length * embedding_rows(model)
    widened = 4 if training.precision == "bf16" and on.type not in ("cpu", "meta") else 0
    return (_number(training) + widened) * min(numbers, chunk_logits(on))


def rounded_bytes(model: PreTrainedModel, training: Training, blocks: Iterable[nn.Module]) -> int:
    """The matrices of these blocks and of the head in bf16; a model that is spread has its blocks in it, one at a time."""
    outside = _products(model) - _products(anatomy(model).blocks)
    return 2 * (outside + sum(map(_products, blocks))) if training.precision == "bf16" else 0


def _products(module: nn.Module) -> int:
    """Numbers of the matrices in a module."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear | Conv1D))


def _number(training: Training) -> int:
    return 2 if training.precision == "bf16" else 4


def _bytes(model: PreTrainedModel, blocks: Sequence[int] | None, trained: bool = False) -> int:
    """Bytes of a model's weights, or of those that are trained; of a cut's, with `blocks`."""
    whole, own = _own_bytes(model, trained), anatomy(model).blocks
    if blocks is None:
        return whole
    return whole - _own_bytes(own, trained) + sum(_own_bytes(own[block], trained) for block in blocks)


def _own_bytes(module: nn.Module, trained: bool = False) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters() if p.requires_grad or not trained)
