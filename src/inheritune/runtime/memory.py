"""The process's memory: keep what is freed or return it, and tell an out-of-memory error from others."""

import ctypes
import platform

import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 1 << 27  # bytes of the largest block that is kept
_LARGE = 1 << 22  # bytes from which a block is returned


def keep_freed_memory() -> None:
    """Ask glibc to reuse blocks within the process; nothing happens where the C library is another.

    Returned to the system at each step, they cost a tenth of a small model's time on the CPU in page faults. The largest are returned
    all the same: they would leave holes in the heap that are too small for the next one.
    """
    _set_glibc(_LARGEST, (1 << 31) - 1)


def return_freed_memory() -> None:
    """Ask glibc to return large blocks to the system; nothing happens where the C library is another.

    Where small results that stay are made between large blocks that go, the holes are too small for the next block, and the heap
    grows with each: by gigabytes in a few hundred passes.
    """
    _set_glibc(_LARGE, 1 << 17)


def _set_glibc(mmap_threshold: int, trim_threshold: int) -> None:
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, mmap_threshold)
        libc.mallopt(_TRIM_THRESHOLD, trim_threshold)


def ran_out(error: Exception) -> bool:
    """Whether an error says that memory does not suffice, of the CPU or of an accelerator."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "allocate memory" in str(error)
