"""The seam for devices: precision, which kernels, how many rows at once, and how a product's gradient is added.

N rows, D hidden size, V vocabulary.
"""

import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel, masking_utils
from transformers.activations import NewGELUActivation

from inheritune.config.sections import Objective, Training
from inheritune.decoder.anatomy import anatomy
from inheritune.training.attention import in_strips
from inheritune.training.terms import OF_ROWS, TAUGHT
from inheritune.training.terms.rows import Rows

_IN_CACHE = 1 << 20  # numbers at once on the CPU: a few megabytes of fp32
_CHUNK, _LARGE_CHUNK = 1 << 25, 1 << 28  # logits in memory at once: on the CPU, on a GPU
_TILE = 1 << 12  # rows of a weight whose gradient is added at once on the CPU: their product stays in the cache


def settled(training: Training, on: torch.device) -> Training:
    """Return `training` with `auto` for precision and compilation replaced by what it means on this device."""
    gpu = on.type == "cuda"
    meant = {"precision": "bf16" if gpu else "fp32", "compile": "graph" if gpu else "none"}
    return training.model_copy(update={key: value for key, value in meant.items() if getattr(training, key) == "auto"})


def is_compiled(training: Training) -> bool:
    """Whether the forward pass of blocks and the losses of the logits are compiled on this machine."""
    return is_to_compile(training) and not lacks_to_compile()


def is_to_compile(training: Training) -> bool:
    """Whether a training asks to be compiled, whatever the machine."""
    return training.compile in ("blocks", "graph")


@lru_cache
def lacks_to_compile() -> str | None:
    """What this machine lacks that Triton needs to build its launchers; None where nothing is missing or there is no GPU."""
    if not torch.cuda.is_available():
        return None
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler"
    return None if Path(sysconfig.get_path("include"), "Python.h").is_file() else "Python's header files"


def chunk_logits(on: torch.device) -> int:
    """How many logits may be in memory at once: few enough to be small beside the weights, enough rows for full-speed products."""
    return _LARGE_CHUNK if on.type == "cuda" else _CHUNK


@contextmanager
def fastest(model: PreTrainedModel, training: Training) -> Iterator[None]:
    """Within the context, `model` uses the fastest kernels for its device, in forward and backward passes alike."""
    swaps = dict(_swaps(model, training))
    with in_strips(model, training.precision), _never_packed():
        try:
            for module, forward in swaps.items():
                module.forward = forward  # type: ignore[method-assign,assignment]
            yield
        finally:
            for module in swaps:
                del module.forward


def _swaps(model: PreTrainedModel, training: Training) -> Iterator[tuple[nn.Module, Callable[..., Any]]]:
    """The modules to change, each with a faster forward function."""
    if model.device.type != "cpu":
        yield from ((module, _fused_gelu) for module in model.modules() if isinstance(module, NewGELUActivation))
    if is_compiled(training):
        yield from ((block, MethodType(_compiled(type(block).forward), block)) for block in anatomy(model).blocks)


# What GPT-2's `gelu_new` computes in eight kernels; it is not used on the CPU, so that results there keep their bits.
_fused_gelu = partial(F.gelu, approximate="tanh")


@lru_cache(maxsize=8)
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function once per process; a block is an argument of its forward, so all blocks of a class share one compilation."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\._inductor")  # advice for kernel authors
    return torch.compile(function)


@contextmanager
def _never_packed() -> Iterator[None]:
    """Skip transformers' look for packed sequences, which waits for the device in every forward pass: there are none here."""
    asked = masking_utils.find_packed_sequence_indices
    try:
        masking_utils.find_packed_sequence_indices = lambda position_ids: None
        yield
    finally:
        masking_utils.find_packed_sequence_indices = asked


def row_losses(
    logits_NV: Tensor,
    labels_N: Tensor,
    teacher_NV: Tensor | None,
    wanted: Objective,
    scale: float = 1.0,
    compiled: bool = False,
) -> dict[str, Tensor]:
    """Return each term's sum over the rows, unweighted; overwrite `logits_NV` with `scale` times the gradient of the weighted sum."""
    count = max(1, len(logits_NV))  # without rows one pass all the same, for sums of zero
    rows = max(1, _IN_CACHE // logits_NV.shape[1]) if logits_NV.device.type == "cpu" else count
    sums: dict[str, Tensor] = {}
    of_piece = _compiled(_of_piece) if compiled else _of_piece
    for first in range(0, count, rows):
        piece = slice(first, first + rows)
        taught = None if teacher_NV is None else teacher_NV[piece]
        parts = of_piece(logits_NV[piece], labels_N[piece], taught, wanted, scale)
        sums = {name: sums.get(name, 0.0) + value for name, value in parts.items()}
    return sums


def _of_piece(
    logits_NV: Tensor, labels_N: Tensor, teacher_NV: Tensor | None, wanted: Objective, scale: float
) -> dict[str, Tensor]:
    """`row_losses` for one piece of the rows, computed in float32."""
    taught = None if teacher_NV is None else teacher_NV.float()
    parts, gradient = _terms(Rows(logits_NV.float(), labels_N, taught, wanted))
    logits_NV.copy_(gradient.mul_(scale))
    return {name: part.sum(dtype=torch.float64) for name, part in parts.items()}


def _terms(rows: Rows) -> tuple[dict[str, Tensor], Tensor]:
    """Return each term with a weight (cross-entropy always), row by row, and the gradient of their weighted sum."""
    given = [name for name in OF_ROWS if rows.teacher_NV is not None or name not in TAUGHT]
    names = [name for name in given if rows.wanted.weights[name] or name == "cross_entropy"]
    found = {name: OF_ROWS[name](rows) for name in names}
    last = names[-1]
    weight, gradient = rows.wanted.weights[last], found[last][1]
    gradient = gradient.mul_(weight) if weight != 1 else gradient
    for name in names[:-1]:
        gradient.add_(found[name][1], alpha=rows.wanted.weights[name])
    return {name: found[name][0] for name in rows.wanted.weights if name in found}, gradient


def add_product(weight_VD: nn.Parameter, gradient_NV: Tensor, states: Tensor) -> None:
    """Add the gradient of the product `states @ weight_VD.T` to the weight's `.grad`, one tile of the weight at a time."""
    if fresh := weight_VD.grad is None:
        weight_VD.grad = torch.empty_like(weight_VD)
    assert weight_VD.grad is not None
    tile = _TILE if weight_VD.device.type == "cpu" else len(weight_VD)
    for own, part in zip(weight_VD.grad.split(tile), gradient_NV.split(tile, dim=1), strict=True):
        own.copy_(part.T @ states) if fresh else own.add_(part.T @ states)
