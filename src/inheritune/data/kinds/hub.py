"""Datasets of the hub, streamed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from inheritune.config.sections import Source
from inheritune.data.documents import Document
from inheritune.data.kind import SourceKind
from inheritune.data.rows import Content, field_of, is_conversation, told_kind
from inheritune.data.tables import missing_column, numbered
from inheritune.errors import DataError
from inheritune.models.find import SECONDS, hub_answers

_MARK = "hf:"


class Hub(SourceKind):
    """`hf:OWNER/NAME`: a document for each row of one split."""

    streamed = True
    part = 8_000_000

    @classmethod
    def claims(cls, source: Source) -> bool:
        """Whether the source's name begins with `hf:`."""
        return source.source.startswith(_MARK)

    @property
    def name(self) -> str:
        """The dataset's id."""
        return self.source.source.removeprefix(_MARK)

    def require(self) -> None:
        """Check only that a dataset is named; the hub is not asked."""
        if not self.name:
            raise DataError(f"{self.source.source!r} names no dataset: write hf:OWNER/NAME")

    def fingerprint(self) -> str:
        """The dataset, configuration, split and revision that are asked for."""
        return json.dumps([self.source.source, self.source.name, self.source.split, self.source.revision])

    def documents(self, field: str) -> Iterator[Document]:
        """The rows as they come; DataError without network, dataset or split."""
        from datasets import load_dataset

        source = self.source
        if not hub_answers(source.source):
            raise DataError(
                f"{source.source!r} cannot be streamed: the hub does not answer within {SECONDS:.0f} s; check the network, or"
                " give a folder"
            )
        split = source.split or "train"
        with self._refusals():
            dataset = load_dataset(self.name, source.name, split=split, revision=source.revision, streaming=True)
            rows = (self._content(row, field) for row in dataset)
            yield from numbered(f"{self.name}/{source.name or ''}/{split}", rows)

    def _content(self, row: Any, field: str) -> Content | None:
        field = field_of(row, field)
        if field not in row:
            raise missing_column(list(row), field, self.source.source)
        content = row[field]
        if not (content is None or isinstance(content, str) or is_conversation(content)):
            raise DataError(
                f"{self.source.source!r} has no text in {field!r} but {told_kind(content)}: name a column of text in data.field"
                " (--field)"
            )
        return content

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        """Turn any error of `datasets` and the hub into a DataError of one sentence."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise DataError(
                f"the dataset {self.source.source!r} cannot be read ({first}): check its id, name, split and the network"
            ) from None
