"""Which device and which dtype: everything else asks here."""

import contextlib
import os

import torch


def device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str) -> contextlib.AbstractContextManager:
    """Forward and backward at a precision by name: `fp32` or `bf16`."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device().type, torch.bfloat16)


def make_repeatable(seed: int) -> None:
    """Seed torch and ask for kernels that give the same bits each time."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
