"""The terms of the training objective, one per file: each has the same name in the recipe, here, in the metrics and in the docs.

A row term is a function `term(rows) -> (loss_N, gradient_NV)` of some rows of logits, and is listed here. Only `hidden` is computed
from the hidden states after blocks: `objective.py` captures these, and autograd computes the gradient.
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from inheritune.training.terms.cross_entropy import cross_entropy
from inheritune.training.terms.logits import logits
from inheritune.training.terms.rows import Rows

RowTerm = Callable[[Rows], tuple[Tensor, Tensor]]
# The last term may overwrite the logits. Terms that need a teacher (TAUGHT) are left out where there is none.
OF_ROWS: Mapping[str, RowTerm] = {"logits": logits, "cross_entropy": cross_entropy}
TAUGHT = frozenset({"logits", "hidden"})
