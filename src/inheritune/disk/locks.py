"""Folders held by one process at a time, with a lock in them that the system releases if the process dies."""

import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from inheritune.disk.files import make_folder
from inheritune.errors import OutputError
from inheritune.runtime.system import is_locked

LOCK = ".lock"


class HeldFolder:
    """A folder that this process holds until `release`."""

    def __init__(self, folder: Path, lock: FileLock, made: bool):
        self.folder, self._lock, self._made = folder, lock, made

    def _removed(self) -> bool:
        try:
            (self.folder / LOCK).unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Release the folder: remove the lock, and the folder itself if it was made for the lock and is empty."""
        if not self._removed():
            self._lock.release()
            self._removed()  # again: Windows removes no file that is open, here or in another process
        self._lock.release()
        if self._made:
            with suppress(OSError):  # it is not empty
                self.folder.rmdir()


def hold(folder: Path, wait: bool = False) -> HeldFolder | None:
    """Hold a folder, making it if it is missing; if another process holds it, wait for it or return None.

    Raises OutputError if a file in the lock's place is not a lock, OSError if the lock cannot be written.
    """
    place, made = folder / LOCK, not folder.exists()
    make_folder(folder)
    if os.path.lexists(place) and (place.is_symlink() or not place.is_file() or place.stat().st_size):
        raise OutputError(f"{str(place)!r} is no lock that was left here: move it, or choose another folder")
    lock = FileLock(place, timeout=-1 if wait else 0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return HeldFolder(folder, lock, made)


def is_held(folder: Path) -> bool | None:
    """Whether some process holds a folder, checked without touching its lock; None if the system does not say.

    A process on another machine, or in another container, is not seen.
    """
    place = folder / LOCK
    return is_locked(place) if place.exists() else False
