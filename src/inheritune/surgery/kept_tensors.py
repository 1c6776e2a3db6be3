"""Results of a long computation, kept so that a stop does not lose them: a file of tensors for each, read back for the same question."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inheritune.disk.files import MARK, left_of, make_folder, whole_file
from inheritune.disk.folders import remove
from inheritune.errors import InherituneError, Interrupted, OutputError
from inheritune.runtime.interruption import exit_code

_QUESTION, _DIGEST = "inheritune.question", "inheritune.digest"
_RESULT = re.compile(r"(reference|block)-\d+\.safetensors")


class KeptTensors:
    """Results of one `question`, by name, in `folder`; without a folder, nothing is kept.

    Results of another question, and whatever a kill has damaged, are made anew. Raises OSError where a file cannot be written.
    """

    def __init__(self, folder: Path | None, question: str):
        self.folder, self.question = folder, question

    def get(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the result kept under this name, or else what `make` gives, after it is written to the disk."""
        if self.folder is None:
            return make()
        place = self.folder / f"{name}.safetensors"
        if (found := self._read(place)) is None:
            found = make()
            make_folder(self.folder)
            tensors = {name: each.contiguous().cpu() for name, each in found.items()}
            with whole_file(place) as file:
                file.write(save(tensors, {_QUESTION: self.question, _DIGEST: _digest(tensors)}))
        return found

    def _read(self, place: Path) -> dict[str, Tensor] | None:
        with suppress(OSError, SafetensorError), safe_open(place, "pt") as file:
            told = file.metadata() or {}
            if told.get(_QUESTION) == self.question:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
                return found if told.get(_DIGEST) == _digest(found) else None
        return None


def _digest(tensors: dict[str, Tensor]) -> str:
    """A digest of the tensors' names and bytes."""
    seen = blake2b()
    for name in sorted(tensors):
        seen.update(name.encode())
        seen.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return seen.hexdigest()


@contextmanager
def repair_beside(place: Path) -> Iterator[Path]:
    """Give the folder that keeps the repair of a model that will be written to `place`, so that the same command can continue it.

    It outlives a stop, and what the disk refuses. A block that ends well, or with another error of this program, removes it. Raises OutputError where something
    stands there that is not ours.
    """
    folder = place.with_name(f".{place.name}{MARK}-repair")
    if os.path.lexists(folder) and not _is_ours(folder):
        raise OutputError(f"{str(folder)!r} is in the way and not of this program: move it, or choose another place")
    try:
        yield folder
    except OutputError:
        raise
    except KeyboardInterrupt as error:
        if folder.exists():
            raise Interrupted("stopped: the same command goes on with the repair", exit_code(error)) from None
        raise
    except InherituneError:
        remove(folder)
        raise
    remove(folder)


def _is_ours(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return all(_RESULT.fullmatch(left_of(entry.name) or entry.name) for entry in folder.iterdir())
