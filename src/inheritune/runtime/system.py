"""What only some operating systems have, asked for here alone: memory held and free, limits on a process, copying inside the kernel."""

import errno
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

BUFFER = 8 << 20  # bytes copied at once, where the kernel cannot copy by itself
UNKNOWN = sys.maxsize  # bytes of free memory, where the system does not say
_GROUP = Path("/sys/fs/cgroup")  # this process's control group, within a container
_REFUSED = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


def peak_host_memory() -> int:
    """Most bytes that this process has held; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would give the peak of the process that started this one, where that is larger
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def free_host_memory() -> int:
    """Bytes still available on the machine, within its container's limit; UNKNOWN where the system does not say."""
    return min([_free(), *_container()])


def _free() -> int:
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", ()):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def _container() -> list[int]:
    """Bytes left of a control group's limit, as a list of one, or none without a limit; inactive page cache counts as free."""
    try:
        most, held, kinds = ((_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current", "stat"))
    except OSError:
        return []
    of_files = next((int(line.split()[1]) for line in kinds.splitlines() if line.startswith("inactive_file ")), 0)
    return [] if most == "max" else [int(most) - int(held) + of_files]


def is_locked(file: Path) -> bool | None:
    """Whether some process of this machine or container has locked a file as a whole; None where the system does not say."""
    table = Path("/proc/locks")
    if not table.exists():
        return None
    own = f":{file.stat().st_ino}"
    return any("FLOCK" in line and line.rsplit(maxsplit=2)[0].endswith(own) for line in table.read_text().splitlines())


def bound_memory(more: int) -> None:
    """Let this process take at most `more` bytes beyond what it holds now (beyond: MemoryError, or it ends), where the system can do so."""
    held = Path("/proc/self/statm")
    if resource is not None and held.exists():
        most = int(held.read_text().split()[0]) * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def bound_time(seconds: int) -> None:
    """Have the system end this process (SIGXCPU) once it takes the processor for so many seconds from now on; where it can do so."""
    if resource is not None:
        most = int(time.process_time()) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def copy_some(source: BinaryIO, target: BinaryIO, most: int) -> int:
    """Copy up to `most` bytes from the position of `source` to that of `target`, and return their number; 0 at the end.

    The kernel copies where it can, else a small buffer. `target` must be flushed before, and is so afterwards. Raises OSError where it
    cannot be written.
    """
    if hasattr(os, "sendfile"):
        try:
            return os.sendfile(target.fileno(), source.fileno(), None, most)  # type: ignore[arg-type]
        except OSError as error:  # not from, or not to, such a file
            if error.errno in _REFUSED:
                raise
    moved = source.read(min(most, BUFFER))
    target.write(moved)
    target.flush()
    return len(moved)
