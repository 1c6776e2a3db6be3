"""Methods: how a target starts and what its loss is. Each file has a dictionary `METHODS` from names to `Method`.

A new method is a file, a line here, a test and a line in the docs.
"""

from inheritune.methods import (
    distil,
    half_width,
    hybrid,
    identity,
    inheritune,
    late,
    lazy_layers,
    pruning,
    published,
    random,
    reference,
    stacking,
    submodules,
)
from inheritune.methods.method import Given, Method, Phase

METHODS: dict[str, Method] = {
    name: method
    for file in (
        inheritune, published, random, reference, stacking, hybrid, half_width, distil, lazy_layers, submodules,
        pruning, identity, late,
    )
    for name, method in file.METHODS.items()
}  # fmt: skip

__all__ = ["METHODS", "Given", "Method", "Phase"]
