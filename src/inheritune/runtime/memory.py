"""The process's memory: keep what is freed, and tell an out-of-memory error from others."""

import ctypes
import platform

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 1 << 27  # bytes of the largest block that is kept


def keep_freed_memory() -> None:
    """Ask glibc to reuse blocks within the process; nothing happens where the C library is another.

    Returned to the system at each step, they cost a tenth of a small model's time on the CPU in page faults. The largest are returned
    all the same: they would leave holes in the heap that are too small for the next one.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST)
        libc.mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, of the CPU or of an accelerator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
