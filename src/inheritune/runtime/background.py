"""Work in a thread of its own while the process goes on: one piece at a time."""

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """Runs one piece of work at a time in a thread. As a context manager it exits once the work is done.

    What the work raises is raised by the next call here, or at the end of the context.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], object]) -> None:
        """Start this work, once what was begun before is done."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,))
        self._thread.start()

    def wait(self) -> None:
        """Wait until the work is done. Raises what it raised."""
        self._join()
        self.look()

    def look(self) -> None:
        """Raise what the work has raised, without waiting for it."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._join()
        if kind is None:
            self.look()

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # whatever it is, `look` raises it in the caller's thread
            self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
