"""The terms of what training minimises, one a file: each has the same name in the recipe, here, in the metrics and in the docs.

A term of rows is a function `term(rows) -> (loss_N, gradient_NV)` of a piece of the rows of logits, listed here. `hidden` alone is
of the states after blocks: `objective.py` catches these, and leaves the gradient to autograd.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from inheritune.training.terms.cross_entropy import cross_entropy
from inheritune.training.terms.logits import logits
from inheritune.training.terms.rows import Rows

RowTerm = Callable[[Rows], tuple[Tensor, Tensor]]
# The last may overwrite the logits. Those that a teacher gives are left out where there is none.
OF_ROWS: Mapping[str, RowTerm] = {"logits": logits, "cross_entropy": cross_entropy}
TAUGHT = frozenset({"logits", "hidden"})
