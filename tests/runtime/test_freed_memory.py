import platform
import subprocess
import sys

import pytest

HELD = """
from inheritune.runtime import memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

memory.{how}()
before = held()
block = bytearray(b"1") * (32 << 20)
assert held() - before > 30 << 20
del block
print((held() - before) >> 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no other C library is asked")
@pytest.mark.parametrize(("how", "stays"), [("keep_freed_memory", True), ("return_freed_memory", False)])
def test_a_freed_block_stays_in_training_and_goes_before_it(how: str, stays: bool) -> None:
    """Resident megabytes of 32 that a process has freed."""
    found = subprocess.run([sys.executable, "-c", HELD.format(how=how)], capture_output=True, text=True, check=True)
    assert (int(found.stdout) > 30) == stays
