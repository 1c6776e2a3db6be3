"""The device and the precision to compute with: all other code asks here, or asks its model where it is."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import deterministic

from inheritune.errors import InputError

CPU = torch.device("cpu")
NAMED = "INHERITUNE_DEVICE"
# Narrower formats for products of fp32 numbers: matrix products use them where a user allows it, cuDNN's convolutions by default.
_NARROW = ("tf32", "bf16")


def device() -> torch.device:
    """Where models are loaded: what INHERITUNE_DEVICE names, else the GPU if there is one, else the CPU.

    Raises InputError for a name that is no device of this machine.
    """
    if name := os.environ.get(NAMED):
        return _there(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _there(name: str) -> torch.device:
    try:
        found = torch.device(name)
        module: Any = None if found.type == "cpu" else torch.get_device_module(found)
    except RuntimeError:
        raise InputError(
            f"{NAMED} is {name!r:.40}, which is no device: name cpu, cuda, cuda:1 or mps, or unset it"
        ) from None
    count = 1 if module is None else module.device_count() if module.is_available() else 0
    if (found.index or 0) >= count:
        raise InputError(
            f"{NAMED} is {name!r:.40}, and this machine has {count} devices of that kind: name another, or unset it"
        )
    return found


@contextlib.contextmanager
def room_for(models: Sequence[nn.Module], others: Sequence[nn.Module], on: torch.device) -> Iterator[None]:
    """Within the context, `models` are on a device and `others` in the CPU's memory; afterwards each is where it was.

    Models that return to the CPU move first, so that the device never holds more than it held within the context, or before it.
    """
    homes = [(model, _home(model)) for model in (*models, *others)]
    try:
        _move([*((other, CPU) for other in others), *((model, on) for model in models)])
        yield
    finally:
        _move(sorted(homes, key=lambda pair: pair[1] != CPU))


def _home(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _move(models: Sequence[tuple[nn.Module, torch.device]]) -> None:
    """Move each model to its device; one that is there stays as it is: moving it would gather what a user has spread over several GPUs."""
    for model, there in models:
        if _home(model) != there:
            model.to(there)


def autocast(precision: str, on: torch.device) -> contextlib.AbstractContextManager:
    """The autocast context for a precision by name, on a device: bf16 for `bf16`, or else none, so fp32."""
    if precision != "bf16":
        return contextlib.nullcontext()
    return torch.autocast(on.type, torch.bfloat16)


@contextlib.contextmanager
def whole_products() -> Iterator[None]:
    """Within the context, products of fp32 numbers are taken in fp32, also where TF32, with 10 bits of mantissa, is allowed elsewhere."""
    cuda, cudnn, mkldnn = (getattr(torch.backends, name) for name in ("cuda", "cudnn", "mkldnn"))
    parts: list[Any] = [cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
    changed = [part for part in parts if part.fp32_precision in _NARROW]
    before = [part.fp32_precision for part in changed]
    try:
        for part in changed:
            part.fp32_precision = "ieee"
        yield
    finally:
        for part, kept in zip(changed, before, strict=True):
            part.fp32_precision = kept


@contextlib.contextmanager
def strictly_repeatable(on: torch.device) -> Iterator[None]:
    """Within the context, on a GPU, a kernel without a deterministic form raises RuntimeError, if deterministic ones were asked for.

    Attention's backward pass gives the same bits each time only in this strict mode, not where a mere warning is asked for.
    """
    if on.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warned)


def make_repeatable(seed: int, kernels: bool = True) -> None:
    """Seed torch and, with `kernels`, ask for kernels that give the same bits each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(kernels, warn_only=True)
    # Training is strict about it (`strictly_repeatable`), and measurements beside it need no gradient to the bit.
    warnings.filterwarnings("ignore", ".*defaults to a non-deterministic algorithm", UserWarning)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs a pass over all new memory
