"""Cut a document into the windows that a model is measured on."""

import numpy as np

from inheritune.models.begin import Begin


def windows(document: np.ndarray, begin: Begin, length: int) -> list[np.ndarray]:
    """Rows of at most `length` ids to read, and one more that is only predicted.

    Each row opens with `begin`, and then every token of the document is predicted. Without a begin a row opens with the last token of
    the row before, and the document's first token is only read.
    """
    return [begin.before(document[place]) for place in _places(document, begin, length)]


def asked_windows(document: np.ndarray, asked: np.ndarray | None, begin: Begin, length: int) -> list[np.ndarray]:
    """A mask of each window's ids that the loss covers: none of the begin, and of the document those in `asked` (None: all)."""
    asked = np.ones(len(document), dtype=bool) if asked is None else asked
    none = np.zeros(len(begin), dtype=bool)
    return [np.concatenate([none, asked[place]]) for place in _places(document, begin, length)]


def _places(document: np.ndarray, begin: Begin, length: int) -> list[slice]:
    """Where in a document each window's own ids stand."""
    if not begin.ids:
        return [slice(start, start + length + 1) for start in range(0, len(document) - 1, length)]
    first, step = len(begin) * begin.stands_before(document), length + 1 - len(begin)
    return [slice(start, start + step) for start in range(first, len(document), step)]
