"""What this machine gives: the rate of its matrix products, and the memory that a process took."""

import time

import torch

from inheritune.runtime import system
from inheritune.runtime.device import device

_SECONDS = 0.5


def matrix_rate(precision: str) -> float:
    """FLOP/s of one large matrix product at a precision by name: the best of half a second of them, after one to warm up."""
    on, size = device(), 8192 if device().type == "cuda" else 1024
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


def peak_memory() -> int:
    """Most bytes held so far: of the accelerator if there is one, else of the process."""
    if device().type == "cuda":
        return torch.cuda.max_memory_allocated()
    return system.peak_host_memory()


def free_memory() -> int:
    """Bytes that can still be had: of the accelerator, or of the machine within its container's limit."""
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    return system.free_host_memory()


def _product(matrix: torch.Tensor) -> float:
    began = time.perf_counter()
    matrix @ matrix
    if matrix.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - began
