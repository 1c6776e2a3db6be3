"""What torchrun tells a process about its launch, in environment variables that people and clusters set too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from inheritune.errors import InputError

_REMEDY = "start with `torchrun --nproc-per-node N -m inheritune ...`, or unset it"
_MOST_PORT = (1 << 16) - 1


@dataclass(frozen=True)
class Launch:
    """A process's place in a launch: the number of processes, its rank overall and on its machine, where they meet, and the attempt."""

    count: int
    rank: int
    local_rank: int
    address: str
    attempt: str = "0"

    @classmethod
    def told(cls, variables: Mapping[str, str] = os.environ) -> "Launch":
        """The launch by the environment, or one process where it names none; raises InputError where the variables contradict each other."""
        count = _number(variables, "WORLD_SIZE", 1)
        if count is None and "RANK" in variables:
            raise InputError(f"RANK is {variables['RANK']!r:.40} and WORLD_SIZE is not set: {_REMEDY}")
        rank = _number(variables, "RANK", 0)
        if rank is not None and rank >= (count or 1):
            raise InputError(f"RANK is {rank} and WORLD_SIZE {count}, where ranks run from 0 to below it: {_REMEDY}")
        local = _number(variables, "LOCAL_RANK", 0)
        if local is not None and local > (rank or 0):
            raise InputError(f"LOCAL_RANK is {local} and RANK {rank}, which is never less: {_REMEDY}")
        if count is None or count == 1:
            return cls(1, 0, 0, "")
        if rank is None:
            raise InputError(f"WORLD_SIZE is {count} and RANK is not set: {_REMEDY}")
        host, port = variables.get("MASTER_ADDR"), _number(variables, "MASTER_PORT", 1)
        if not host or port is None or port > _MOST_PORT:
            raise InputError(
                f"WORLD_SIZE is {count}, and MASTER_ADDR {host!r:.80} and MASTER_PORT {port} say no place to meet: {_REMEDY}"
            )
        attempt = variables.get("TORCHELASTIC_RESTART_COUNT", "0")
        return cls(count, rank, rank if local is None else local, f"{host}:{port}", attempt)


def _number(variables: Mapping[str, str], name: str, least: int) -> int | None:
    text = variables.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise InputError(f"{name} is {text!r:.40}, which is no whole number from {least} on: {_REMEDY}")
    return int(text)
