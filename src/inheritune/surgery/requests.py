"""What is asked of surgery on model folders: plain data, so that whoever asks need not load torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class CutRequest:
    """What to inherit and what to do with it; `proved` None: prove the cut if the model is small; `trust`: the model's own code may run."""

    blocks: list[int]
    parts: list[str] | None = None
    outside: str = "all"
    heal: Path | None = None
    dtype: "torch.dtype | None" = None
    proved: bool | None = None
    seed: int = 0
    trust: bool = False

    @property
    def plain(self) -> bool:
        """Whether whole blocks are asked for, with all that is outside them, in the dtype that they are kept in and without repair."""
        return (self.parts, self.outside, self.heal, self.dtype) == (None, "all", None, None)


@dataclass(frozen=True)
class GrowRequest:
    """The reference's blocks that a target holds and those wanted, how new ones start; `proved`, `trust` as in `CutRequest`."""

    held: Sequence[int]
    wanted: Sequence[int]
    start: str = "inherited"
    proved: bool | None = None
    seed: int = 0
    trust: bool = False
