"""`made_of.json`: what a run folder was begun with, by content and not by name, so that other content is noticed later."""

from collections.abc import Iterator
from typing import ClassVar, Self

from inheritune.disk.seals import MARKED_BY
from inheritune.records.entry import Count, Entry, JsonFile


class FileMark(Entry):
    """What identifies a file: the digest of all its bytes or, if it is too large, of samples, with its size and time of change (ns)."""

    size: Count
    digest: str
    changed: Count | None = None

    @property
    def whole(self) -> bool:
        """Whether the digest is of all bytes."""
        return self.changed is None


class MadeOf(JsonFile):
    """Digests of a run's content: token ids and document starts by text, the tokenizer, and the reference's files by name.

    `mark` is random and the run folder's own, so that no other folder's files are taken for its files.
    """

    NAME: ClassVar[str] = MARKED_BY
    MENDED_BY: ClassVar[str] = "bring it back from a copy, or name another --out"
    texts: dict[str, str]
    tokenizer: str
    reference: dict[str, FileMark]
    mark: str = ""

    @property
    def elsewhere(self) -> Self:
        """The same without times of change, which differ from machine to machine."""
        marks = {name: mark.model_copy(update={"changed": mark.changed and 0}) for name, mark in self.reference.items()}
        return self.model_copy(update={"reference": marks})

    def differences(self, now: Self) -> Iterator[str]:
        """Yield in words each part whose content is another `now`."""
        if self.tokenizer != now.tokenizer:
            yield "the reference's tokenizer"
        for name in sorted(self.reference.keys() | now.reference.keys()):
            if self.reference.get(name) != now.reference.get(name):
                yield f"the reference's {name}{_how(self.reference.get(name), now.reference.get(name))}"
        for name in sorted(self.texts.keys() | now.texts.keys()):
            if self.texts.get(name) != now.texts.get(name):
                yield f"the text of {name}"


def _how(before: FileMark | None, now: FileMark | None) -> str:
    if before is None or now is None:
        return " (added)" if before is None else " (gone)"
    only_time = before.model_copy(update={"changed": now.changed}) == now
    return " (its time of change: it is too large to be read whole)" if only_time else ""
