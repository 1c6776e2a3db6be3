"""Text files: sections of running text."""

from collections.abc import Iterator

from inheritune.data.documents import Document
from inheritune.data.files import File
from inheritune.data.kind import FileKind
from inheritune.data.unpacking import lines
from inheritune.errors import DataError

# A section ends at the first blank line after SECTION bytes, or at the first line's end after LONGEST_SECTION.
SECTION, LONGEST_SECTION = 4_000, 100_000


class RunningText(FileKind):
    """A file of paragraphs, packed into sections, so that one long file has many documents to split and pair by."""

    suffixes = (".txt", ".md", ".text")
    packed = True

    def documents(self, file: File, field: str) -> Iterator[Document]:
        """The file's sections, in order."""
        number = 0
        for offset, content in _pieces(lines(file)):
            if text := _decoded(file, offset, content):
                yield Document(f"{file.name}#{number}", text, file.name)
                number += 1


def _pieces(lines: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    held: list[bytes] = []
    size = offset = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= LONGEST_SECTION or (size >= SECTION and not line.strip()):
            yield offset, b"".join(held)
            held, size, offset = [], 0, offset + size
    yield offset, b"".join(held)


def _decoded(file: File, offset: int, content: bytes) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{str(file.path)!r} is not UTF-8 text (byte {offset + error.start}): convert it first"
        ) from None
    if "\0" in text:
        raise DataError(
            f"{str(file.path)!r} holds NUL characters and so is no UTF-8 text: check what it is, or convert it"
        )
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").strip("\n")
    return text if text.strip() else ""
