"""Folders of `inheritune prepare`: tokens as they were prepared."""

from collections.abc import Iterator
from pathlib import Path

from inheritune.config.sections import Source
from inheritune.data import store
from inheritune.data.coding import Coding
from inheritune.data.documents import Encoded
from inheritune.data.files import all_files
from inheritune.data.kind import SourceKind


class Prepared(SourceKind):
    """A prepared folder: the documents of both its sides."""

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source is a folder with a manifest."""
        return (Path(source.source).expanduser() / store.MANIFEST).is_file()

    @property
    def tokens(self) -> int:
        """The number of tokens of both sides."""
        sides = store.read_manifest(self.place).sides
        return sides.train.tokens + sides.valid.tokens

    def contents(self) -> list[tuple[str, Path]]:
        """All files of the folder."""
        return all_files(self.place)

    def encoded(self, coding: Coding) -> Iterator[Encoded]:
        """The documents as they are; DataError where another tokenizer made them."""
        manifest = store.read_manifest(self.place)
        store.require_same_coding(self.place, manifest, coding)
        for side in store.SIDES:
            tokens = store.read_side(self.place, side)
            for number in range(len(tokens.starts)):
                book = number if tokens.books is None else tokens.books[number]
                name = f"{self.place.name}/{side}"
                ids, asked = tokens.document(number), tokens.asked_of(number)
                yield coding.bare(Encoded(f"{name}#{number}", f"{name}/{book}", ids, asked, manifest.chat is not None))
