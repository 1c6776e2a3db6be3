"""A folder is held by one process at a time, by a lock in it that the system lets go if the process dies."""

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
        """Let another process have the folder. The lock goes, and with it a folder that was made for it and is empty."""
        if not self._removed():
            self._lock.release()
            self._removed()  # Windows removes no file that is open, be it ours or another's
        self._lock.release()
        if self._made:
            with suppress(OSError):  # it is of use
                self.folder.rmdir()


def hold(folder: Path, wait: bool = False) -> HeldFolder | None:
    """Hold a folder, which is made if it is not there; where another has it, wait for it or give None.

    Raises OutputError for a file in the lock's place that is none, OSError where it cannot be written.
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
    """Whether some process holds a folder, asked without touching its lock; None where the system does not say.

    A process on another machine, or in another container, is not seen.
    """
    place = folder / LOCK
    return is_locked(place) if place.exists() else False
