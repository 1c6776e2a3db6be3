"""Folders that stand in their place whole, or not at all: made beside it, flushed to the disk, moved."""

import os
import shutil
from pathlib import Path


def empty_beside(place: Path) -> Path:
    """An empty folder in which `place` is made, to be moved by `move`."""
    beside = place.with_name(f".{place.name}.partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    return beside


def move(beside: Path, place: Path) -> None:
    """Flush a folder and all in it, and move it to its place; what stood there stays until then."""
    for path in [*beside.rglob("*"), beside]:
        _flush(path)
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    beside.rename(place)
    _flush(place.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
