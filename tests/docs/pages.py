"""The README and the site as pages with fenced blocks: what is shown, and what stands above a block that is not run."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")
_FENCE = re.compile(r"^( *)```(\S*)")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what stands in it, and why it is not run, if it is not."""

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def lines(self) -> list[str]:
        """The commands of a shell's block: continued lines are joined, comments left out."""
        joined = re.sub(r"\\\n\s*", "", self.text).splitlines()
        return [line for line in joined if line.strip() and not line.lstrip().startswith("#")]

    def commands(self) -> list[list[str]]:
        """The words of each `inheritune …`, whatever starts it; variables of the shell are left as they stand."""
        found = [shlex.split(line, comments=True) for line in self.lines()]
        return [words[at + 1 :] for words in found if (at := _program(words)) is not None]


def _program(words: list[str]) -> int | None:
    """Where `inheritune` stands as the program, be it with a path before it or as `-m inheritune`."""
    for at, word in enumerate(words):
        if word.rpartition("/")[2] == "inheritune" and (at == 0 or words[at - 1] == "-m" or "=" in words[at - 1]):
            return at
    return None


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page."""
    lines, at = page.read_text(encoding="utf-8").splitlines(), 0
    while at < len(lines):
        if opened := _FENCE.match(lines[at]):
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            text = "\n".join(line.removeprefix(opened[1]) for line in lines[at + 1 : end]) + "\n"
            above = NOT_RUN.fullmatch(lines[at - 1].strip()) if at else None
            name = page.relative_to(ROOT).as_posix()
            yield Block(name, at + 1, opened[2], text, above[1] if above else None)
            at = end
        at += 1


def site() -> list[Path]:
    """The README and the site's pages; those of `results/` are records of what was run once."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def records() -> list[Path]:
    """Pages of what was run once: minutes to days."""
    return sorted((ROOT / "docs" / "results").rglob("*.md"))
