"""Folders laid out like datasets of the hub: the names of files, or of folders above them, tell their splits."""

import re
from functools import cached_property
from pathlib import Path, PurePosixPath

from inheritune.config.sections import Source
from inheritune.data.files import File, files
from inheritune.data.kinds.plain_files import READ, PlainFiles, known
from inheritune.errors import DataError

TRAIN = "train"
_WORDS = {
    TRAIN: "train", "training": TRAIN,
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
_SHARD = re.compile(r"(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}\b.*")


class SplitFolder(PlainFiles):
    """A folder with files of several splits, of which one is read: what is held out for tests never trains."""

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source is a folder that tells the split of every file, or separates other files from those for training."""
        place = Path(source.source).expanduser()
        if not place.is_dir():
            return False
        found = {split_of(file.name) for file in files(source.source, READ)}
        return None not in found or {TRAIN, "validation"} <= found or {TRAIN, "test"} <= found

    @cached_property
    def files(self) -> list[File]:
        """The files of the split that is asked for, by default `train`; raises DataError if there are none."""
        if self.source.revision:
            raise DataError(f"{self.source.source!r} is a folder and has no revision: leave `revision` out")
        found = {file: split_of(file.name) for file in self._of_name()}
        loose = next((file for file, split in found.items() if split is None), None)
        if loose and not self.source.split:
            raise DataError(
                f"{str(loose.path)!r} is of no split, beside files of {self._told(found)}: name what you mean by a glob, or a split"
            )
        wanted = self.source.split or TRAIN
        chosen = [file for file, split in found.items() if split == _WORDS.get(wanted, wanted)]
        if not chosen:
            raise DataError(f"{self.source.source!r} has no split {wanted!r}: name one of {self._told(found)} as split")
        return [known(file) for file in chosen]

    def _of_name(self) -> list[File]:
        """The files below a folder with the name of the configuration, or all if none is asked for."""
        all_files, name = files(self.source.source, READ), self.source.name
        found = [file for file in all_files if name is None or name in PurePosixPath(file.name).parts[:-1]]
        if not found:
            raise DataError(
                f"{self.source.source!r} has no folder {name!r}: leave `name` out, or name one of its folders"
            )
        return found

    @staticmethod
    def _told(found: dict[File, str | None]) -> str:
        return ", ".join(sorted({split for split in found.values() if split}))


def split_of(name: str) -> str | None:
    """The split that a file's name or a folder above it tells, as the hub reads them; None where none does."""
    path = PurePosixPath(name)
    if shard := _SHARD.fullmatch(path.name):
        return _WORDS.get(shard["split"], shard["split"])
    words = [*re.split(r"[\W\d_]+", path.stem.lower()), *(part.lower() for part in reversed(path.parts[:-1]))]
    return next((_WORDS[word] for word in words if word in _WORDS), None)
