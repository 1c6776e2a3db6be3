"""Whether the begin of text in use suits a model best: compare its losses behind several, on a few rows, before a run is paid for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from inheritune.disk.kept import Kept, ids_digest
from inheritune.evaluation.token_losses import token_losses
from inheritune.evidence.gap import gap
from inheritune.models.begin import Begin
from inheritune.progress import Tally, silent

WORSE = 0.05  # nats per token by which a begin may be worse than the best
_ROWS_AT_ONCE = 4


@dataclass(frozen=True)
class Beginnings:
    """A model's loss behind each begin, in nats per token on the same tokens, and the index of the best if it clearly beats the first."""

    losses: list[float]
    better: int | None
    tokens: int


def compare_beginnings(
    model: PreTrainedModel,
    rows: Sequence[np.ndarray],
    begins: Sequence[Begin],
    precision: str = "fp32",
    count: Tally = silent,
    place: Path | None = None,
) -> Beginnings:
    """Measure the loss of `model` on `rows` behind each of `begins`, of which the first is in use.

    All rows have one length. Only their second halves count, where the start itself no longer has an effect. A begin is called better if
    it is better by more than `WORSE` nats, and better at all at 95% confidence. `count` counts the rows behind all begins together.
    With a `place` their losses are kept in that file until all are there, so that a stop does not lose them.
    """
    half, whole = len(rows[0]) // 2, len(begins) * len(rows)
    question = {"rows": ids_digest([row.tolist() for row in rows]), "begins": [list(begin.ids) for begin in begins]}
    kept = Kept(place, {**question, "precision": precision})
    count(sum(len(known["losses"]) for known in kept.results), whole)
    asked = [(begin, first) for begin in begins for first in range(0, len(rows), _ROWS_AT_ONCE)]
    for begin, first in asked[len(kept.results) :]:
        some = [begin.before(row) for row in rows[first : first + _ROWS_AT_ONCE]]
        kept.add({"losses": [float(losses[-half:].mean()) for losses in token_losses(model, some, precision)]})
        count(sum(len(known["losses"]) for known in kept.results), whole)
    found = [loss for known in kept.results for loss in known["losses"]]
    losses_BN = np.asarray(found).reshape(len(begins), len(rows))
    means = losses_BN.mean(axis=1)
    best = int(means.argmin())
    if not np.isfinite(losses_BN).all():
        best = 0
    clearly = means[0] - means[best] > WORSE and gap(losses_BN[0], losses_BN[best]).low > 0
    return Beginnings(means.tolist(), best if clearly else None, sum(len(b) + len(row) for b in begins for row in rows))
