"""Datasets that `datasets` saved to a folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inheritune.config.sections import Source
from inheritune.data.documents import Document
from inheritune.data.files import all_files, require_regular
from inheritune.data.kind import SourceKind
from inheritune.data.kinds.arrow import contents
from inheritune.data.tables import numbered
from inheritune.errors import DataError

_SPLITS, _STATE = "dataset_dict.json", "state.json"
_LONGEST = 16 << 20  # bytes of a file that lists files


class Saved(SourceKind):
    """A folder of `save_to_disk`: a document for each row of one split. Its own lists of Arrow files are followed."""

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source is a folder with a list of splits, or with the state of one dataset."""
        place = Path(source.source).expanduser()
        return (place / _SPLITS).is_file() or (place / _STATE).is_file()

    def contents(self) -> list[tuple[str, Path]]:
        """All files of the folder."""
        return all_files(self.place)

    def documents(self, field: str) -> Iterator[Document]:
        """The rows of the split."""
        folder = self._folder()
        state = _listed(folder / _STATE)
        split, entries = state.get("_split"), state.get("_data_files")
        if folder == self.place and self.source.split not in (None, str(split)):
            raise DataError(f"{self.source.source!r} has no split {self.source.split!r}: it is a single one, {split}")
        if state.get("_indices_data_files") or not isinstance(entries, list):
            raise DataError(f"{self.source.source!r} cannot be read: save it again with a newer `datasets`")
        places = [_inside(folder, entry.get("filename") if isinstance(entry, dict) else None) for entry in entries]
        rows = (content for place in places for content in contents(place, field))
        yield from numbered(f"{self.place.name}/{split}", rows)

    def _folder(self) -> Path:
        if not (self.place / _SPLITS).is_file():
            return self.place
        there = _listed(self.place / _SPLITS).get("splits")
        names = [name for name in there if isinstance(name, str)] if isinstance(there, list) else []
        wanted = self.source.split or "train"
        if wanted not in names:
            raise DataError(
                f"{self.source.source!r} has no split {wanted!r}: name one of {', '.join(names)[:400]} as split"
            )
        return _inside(self.place, wanted)


def _listed(path: Path) -> dict[str, Any]:
    try:
        require_regular(path)
        found = json.loads(path.read_bytes()) if path.stat().st_size <= _LONGEST else None
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise DataError(f"{str(path)!r} cannot be read: save the dataset again")
    return found


def _inside(folder: Path, name: Any) -> Path:
    """The path of a file or folder that a list names; raises DataError if it is not inside `folder`."""
    path = folder / str(name)
    if not isinstance(name, str) or not path.resolve().is_relative_to(folder.resolve()) or not path.exists():
        raise DataError(f"{str(folder)!r} lists {name!r:.100}, which does not stand in it: save the dataset again")
    if path.is_dir():
        return path
    require_regular(path)
    return path
