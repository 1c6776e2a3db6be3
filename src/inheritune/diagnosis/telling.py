"""How a diagnosis says how far it is, to whoever wants to know."""

from collections.abc import Callable

# Called with what is being measured, and how many of how many parts of it are done.
TellStage = Callable[[str, int, int], None]
# The same, within one stage.
Tell = Callable[[int, int], None]


def silent(*_: object) -> None:
    """Tell nobody."""
