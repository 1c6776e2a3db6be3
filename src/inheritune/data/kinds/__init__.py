"""The kinds of text sources, one per file. A new one takes a file, a line here, a test and a line in docs/data.md.

A kind of file, known by its suffix, stands in `plain_files.FILE_KINDS` instead.
"""

from inheritune.config.sections import Source
from inheritune.data.kind import SourceKind
from inheritune.data.kinds.docstrings import Docstrings
from inheritune.data.kinds.hub import Hub
from inheritune.data.kinds.plain_files import PlainFiles
from inheritune.data.kinds.prepared import Prepared
from inheritune.data.kinds.saved import Saved
from inheritune.data.kinds.split_folder import SplitFolder

# The first kind that claims a source reads it.
SOURCE_KINDS: tuple[type[SourceKind], ...] = (Docstrings, Hub, Saved, Prepared, SplitFolder, PlainFiles)


def source_kind(source: Source) -> SourceKind:
    """A source as an instance of its kind."""
    return next(kind for kind in SOURCE_KINDS if kind.claims(source))(source)
