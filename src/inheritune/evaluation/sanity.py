"""Whether a model's loss on a text is plausible for its size."""

# A model trained as well as its size allows has, on English web text, 1.69 + 406 / N^0.34 nats per token (Hoffmann et al. 2022, arXiv
# 2203.15556, for unlimited text), and a token is about four bytes. Twice that leaves room for little training and for other kinds of text.
_LEAST, _SCALE, _POWER, _BYTES_A_TOKEN, _ROOM = 1.69, 406.4, 0.34, 4, 2


def explained_nats_per_byte(parameters: int) -> float:
    """The most nats per byte of natural text that a trained model of so many parameters should have."""
    return _ROOM * (_LEAST + _SCALE / parameters**_POWER) / _BYTES_A_TOKEN
