"""Measure this machine: the rate of its matrix products, and the memory that is used and free."""

import time
from functools import lru_cache
from typing import Any

import torch

from inheritune.runtime import system

_SECONDS = 0.5


def matrix_rate(precision: str, on: torch.device) -> float:
    """FLOP/s of a large matrix product at a precision by name: the best within half a second, after one to warm up; cached per process."""
    return _matrix_rate(precision, on, torch.backends.cuda.matmul.fp32_precision)


@lru_cache
def _matrix_rate(precision: str, on: torch.device, _of_fp32: str) -> float:
    size = 8192 if on.type == "cuda" else 1024
    numbers = torch.rand(size, size, generator=torch.Generator().manual_seed(0))
    matrix = numbers.to(on, torch.bfloat16 if precision == "bf16" else torch.float32)
    _product(matrix)
    took: list[float] = []
    end = time.perf_counter() + _SECONDS
    while not took or time.perf_counter() < end:
        took.append(_product(matrix))
    return 2 * size**3 / min(took)


def bf16_slowness() -> float:
    """How many times longer a product takes in bf16 than in fp32 on the CPU: the best of three each, in turns."""
    halves = {kind: torch.ones(512, 512, dtype=kind) for kind in (torch.float32, torch.bfloat16)}
    took = [[_product(matrix) for matrix in halves.values()] for _ in range(4)][1:]
    whole, half = (min(column) for column in zip(*took, strict=True))
    return half / whole


def peak_memory(on: torch.device) -> int:
    """Most bytes held so far on a device; of the CPU, by the process."""
    if on.type == "cpu":
        return system.peak_host_memory()
    module: Any = torch.get_device_module(on)
    return module.driver_allocated_memory() if on.type == "mps" else module.max_memory_allocated()


def free_memory(on: torch.device) -> int:
    """Bytes still available on a device, including what PyTorch holds there unused; of the CPU, within the container's limit."""
    if on.type == "cpu":
        return system.free_host_memory()
    module: Any = torch.get_device_module(on)
    if on.type == "mps":
        return module.recommended_max_memory() - module.current_allocated_memory()
    return module.mem_get_info()[0] + module.memory_reserved() - module.memory_allocated()


def _product(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    matrix @ matrix
    if matrix.device.type != "cpu":
        torch.get_device_module(matrix.device).synchronize()
    return time.perf_counter() - began
