"""A model sharded over processes by FSDP2, and its checkpoints: PyTorch's distributed ones, kept as safetensors.

The checkpoints load at another number of processes, and in one process without any group.
"""

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor, zeros

from inheritune.runtime import processes

Flat = dict[str, Tensor]


def shard(model: nn.Module, blocks: Iterable[nn.Module], half: bool = False) -> None:
    """Shard a model over the processes in place: each block by itself, and all that is outside the blocks together.

    With `half`, blocks are gathered in bf16, which halves what is sent. Gradients are summed in fp32, and the residual stream stays fp32.
    """
    # A model without its head returns a view, and nothing here changes it in place, which the warning is about.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    narrow = MixedPrecisionPolicy(torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(block, mp_policy=narrow if half else MixedPrecisionPolicy())
    fully_shard(model)
    for part in model.modules():
        if isinstance(part, FSDPModule):  # gradients are sums: the loss is divided by the whole batch's tokens
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)


def sum_now(model: nn.Module, now: bool) -> None:
    """Set whether a sharded model's next backward pass sums its gradients over the processes, or keeps them unsharded until one does."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def is_sharded(tensors: Iterable[Tensor]) -> bool:
    """Whether any of these tensors is sharded over processes."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def whole(tensor: Tensor) -> Tensor:
    """The whole of a tensor, gathered from all processes if it is sharded."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor that every process has whole, sharded as `like` is: nothing is sent."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def write(folder: Path, flat: Flat) -> None:
    """Each process's parts of `flat` as a safetensors file of its own, in a folder that the main process has made.

    Every process has to call it; it may go on in a thread beside a training.
    """
    group = processes.writers()
    dist.barrier(group)  # until the folder is there
    with _quiet():
        storage = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(flat, storage_writer=storage, process_group=group)


def read(folder: Path, weights: Mapping[str, Tensor]) -> Flat:
    """Fill `weights` from a folder that `write` (or a plain checkpoint) made; returns what else it holds.

    A key `name|kind` comes back sharded as `weights[name]` is, if it has that shape. If any of the weights is
    sharded, every process has to call it.
    """
    reader = HuggingFaceStorageReader(str(folder))
    held: dict[str, Any] = dict(reader.read_metadata().state_dict_metadata)
    others = {key: _like(weights[key.partition("|")[0]], held[key].size) for key in held if key not in weights}
    with _quiet():
        dcp.load({**weights, **others}, storage_reader=reader, no_dist=not is_sharded(weights.values()))
    return others


def _like(parameter: Tensor, shape: torch.Size) -> Tensor:
    if isinstance(parameter, DTensor) and parameter.shape == shape:
        return zeros(shape, dtype=torch.float32, device_mesh=parameter.device_mesh, placements=parameter.placements)
    return torch.zeros(shape, device=parameter.device)


def _quiet() -> warnings.catch_warnings:
    return warnings.catch_warnings(action="ignore", category=UserWarning)
