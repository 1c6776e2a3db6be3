"""A document as the windows that a model is measured on."""

import numpy as np

from inheritune.models.begin import Begin


def windows(document: np.ndarray, begin: Begin, length: int) -> list[np.ndarray]:
    """Rows of ids, of which all but the last token are read: at most `length`.

    Each row opens with `begin`, and then every token of the document is predicted. Without a begin a row opens with the last token of
    the row before, and the document's first token is only read.
    """
    if not begin.ids:
        return [document[start : start + length + 1] for start in range(0, len(document) - 1, length)]
    text, step = begin.without(document), length + 1 - len(begin)
    return [begin.before(text[start : start + step]) for start in range(0, len(text), step)]
