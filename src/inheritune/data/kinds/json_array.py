"""JSON that is not one row per line: an array of rows, or rows one after another, on any number of lines."""

import codecs
import io
import json
from collections.abc import Iterator
from typing import Any

from inheritune.data.documents import LONGEST, Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.rows import content_of, document_of
from inheritune.data.unpacking import opened
from inheritune.errors import DataError

_AT_ONCE = 1 << 16
_BLANKS = " \t\r\n"


class JsonArray(FileKind):
    """A file with a JSON array of objects, or with objects alone, read a row at a time."""

    suffixes = (".json",)
    packed = True

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The text or the conversation of each row."""
        with opened(file) as stream:
            for number, row in enumerate(_Rows(stream, str(file.path)), 1):
                content = content_of(row, f"row {number} of {str(file.path)!r}", field)
                if document := document_of(f"{file.name}#{number}", content):
                    yield document


class _Rows:
    """Iterates over the rows of a JSON text, holding no more than one."""

    def __init__(self, stream: io.BufferedReader, path: str):
        self.stream, self.path, self.decode = stream, path, json.JSONDecoder().raw_decode
        self.text, self.ended, self.number = "", False, 0
        self.utf8 = codecs.getincrementaldecoder("utf-8-sig")()

    def __iter__(self) -> Iterator[Any]:
        array = self._take("[")
        while not self._take("]") if array else self._next():
            if array and self.number and not self._take(","):
                raise self._refusal()
            yield self._value()
        if self._next():
            raise self._refusal()

    def _next(self) -> str:
        """The next character that is not blank; empty at the end."""
        self.text = self.text.lstrip(_BLANKS)
        while not self.text and not self.ended:
            self._read(_AT_ONCE)
            self.text = self.text.lstrip(_BLANKS)
        return self.text[:1]

    def _take(self, sign: str) -> bool:
        if found := self._next() == sign:
            self.text = self.text[1:]
        return found

    def _value(self) -> Any:
        self.number += 1
        self._next()
        while True:
            try:
                value, end = self.decode(self.text)
                break
            except (ValueError, RecursionError):
                if self.ended or len(self.text) > LONGEST:
                    raise self._refusal() from None
                self._read(len(self.text))  # twice as much each time, so that what is read again stays in bounds
        self.text = self.text[end:]
        return value

    def _read(self, size: int) -> None:
        read = self.stream.read(size)
        self.ended = not read
        self.text += self.utf8.decode(read, final=self.ended)

    def _refusal(self) -> DataError:
        if len(self.text) > LONGEST:
            return DataError(
                f"row {self.number} of {self.path!r} is not JSON, or has more than {LONGEST >> 20} MB: mend it"
            )
        return DataError(f"{self.path!r} is not JSON from row {max(1, self.number)} on: mend it")
