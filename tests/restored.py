"""A folder that is made once for many tests, each of which may change it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def restored(folder: Path, aside: Path) -> Iterator[Path]:
    """The folder, which is as it was once the block has ended, with the times of its files; `aside` holds a copy meanwhile."""
    shutil.copytree(folder, aside)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        aside.rename(folder)
