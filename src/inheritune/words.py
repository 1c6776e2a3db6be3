"""How counts and runs of indices are written: the same in the terminal, the report and the model card."""

from collections.abc import Sequence

EN_DASH = "\N{EN DASH}"


def runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Block indices as (first, last) of each unbroken run: [0, 1, 2, 5] is [(0, 2), (5, 5)]."""
    found: list[tuple[int, int]] = []
    for block in blocks:
        if found and block == found[-1][1] + 1:
            found[-1] = (found[-1][0], block)
        else:
            found.append((block, block))
    return found


def span(first: int, last: int) -> str:
    """One run of blocks: "5", or "5-8" with an en dash."""
    return str(first) if first == last else f"{first}{EN_DASH}{last}"


def ranges(blocks: Sequence[int]) -> str:
    """Block indices with their runs closed up: [0, 1, 2, 5, 7, 8] is "0-2, 5, 7-8" with en dashes."""
    return ", ".join(span(*run) for run in runs(blocks))


def plural(number: int, noun: str) -> str:
    """A count with its noun: 1 block, 2 blocks."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
