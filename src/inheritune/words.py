"""How counts and runs of indices are written: the same in the terminal, the report and the model card."""

import re
from collections.abc import Sequence

# Terminal control characters, bidirectional controls, and surrogates, which no UTF-8 file can hold.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
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


def show(blocks: Sequence[int]) -> str:
    """Block indices as options take them, and as `parse` reads them back: [0, 1, 2, 5] is "0-2,5"."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs(blocks))


def plural(number: int, noun: str) -> str:
    """A count with its noun: 1 block, 2 blocks."""
    return f"{number:,} {nouns(number, noun)}"


def nouns(number: int, noun: str) -> str:
    """The singular or plural of a noun, without the number: block, blocks."""
    return noun if number == 1 else f"{noun}s"


def harmless(text: str) -> str:
    """Replace the characters of a text that control a terminal or that no file can hold."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def literal(text: str) -> str:
    """Escape text from outside as one line of literal Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&!])", r"\\\1", " ".join(harmless(text).split()))


def code_span(text: str) -> str:
    """Text from outside as a code span, fenced by more backticks than it holds in a row; `<` is replaced, so no tag opens in it."""
    line = " ".join(harmless(text).split()).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}")
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}"
