"""How a model starts, one method a file: a function `start(reference, blocks, seed) -> model`.

A new method is a file, a line here, a test and a line in the docs.
"""

from collections.abc import Callable, Sequence

from transformers import PreTrainedModel

from inheritune.methods import inheritune, random, reference

METHODS: dict[str, Callable[[PreTrainedModel, Sequence[int], int], PreTrainedModel]] = {
    "inheritune": inheritune.start,
    "random": random.start,
    "reference": reference.start,
}
