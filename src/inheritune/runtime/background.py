"""Work in a thread of its own while the process goes on: one piece at a time."""

import threading
from collections.abc import Callable
from typing import Self


class Background:
    """One piece of work beside what the process does. As a context it ends once the work has.

    What the work raises is raised by whoever asks next.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], object]) -> None:
        """Do this, once what was begun before is done."""
        self.wait()
        self._thread = threading.Thread(target=self._do, args=(work,))
        self._thread.start()

    def wait(self) -> None:
        """Wait until nothing is being done. Raises what the work raised."""
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
        except BaseException as error:  # whatever it is, it is told where it can be answered
            self._error = error

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
