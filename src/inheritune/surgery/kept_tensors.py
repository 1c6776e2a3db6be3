"""Tensors that a stop must not lose: a file in a folder for each result of a long computation, read back by whoever asks the same."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from inheritune.disk.files import make_folder, whole_file

_QUESTION = "inheritune.question"


class KeptTensors:
    """Results of one `question`, by name, in `folder`; without one, nothing is kept.

    Results of another question, and whatever a kill has damaged, are made anew. Raises OSError where a file cannot be written.
    """

    def __init__(self, folder: Path | None, question: str):
        self.folder, self.question = folder, question

    def get(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """The result that is kept under this name, or what `make` gives, which is on the disk before this returns."""
        if self.folder is None:
            return make()
        place = self.folder / f"{name}.safetensors"
        if (found := self._read(place)) is None:
            found = make()
            make_folder(self.folder)
            with whole_file(place) as file:
                file.write(
                    save({name: each.contiguous().cpu() for name, each in found.items()}, {_QUESTION: self.question})
                )
        return found

    def _read(self, place: Path) -> dict[str, Tensor] | None:
        with suppress(OSError, SafetensorError), safe_open(place, "pt") as file:
            if (file.metadata() or {}).get(_QUESTION) == self.question:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        return None
