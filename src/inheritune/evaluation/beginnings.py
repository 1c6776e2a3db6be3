"""Whether a model reads text best behind the begin in use: the model itself is asked, on a few rows, before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel

from inheritune.evaluation.token_losses import token_losses
from inheritune.evidence.gap import gap
from inheritune.models.begin import Begin

WORSE = 0.05  # nats per token by which a begin may be worse than the best


@dataclass(frozen=True)
class Beginnings:
    """A model's loss behind each begin, in nats per token on the same tokens, and the best of those that clearly beat the first."""

    losses: list[float]
    better: int | None
    tokens: int


def compare_beginnings(
    model: PreTrainedModel, rows: Sequence[np.ndarray], begins: Sequence[Begin], precision: str = "fp32"
) -> Beginnings:
    """Ask `model` for its loss on `rows` behind each of `begins`, of which the first is in use.

    Rows are of one length. Only their second halves count, where what a start alone is worth is long forgotten. A begin is better by
    more than `WORSE` nats, at 95% confidence that it is better at all.
    """
    half = len(rows[0]) // 2
    found = [token_losses(model, [begin.before(row) for row in rows], precision) for begin in begins]
    losses_BN = np.asarray([[row[-half:].mean() for row in losses] for losses in found])
    means = losses_BN.mean(axis=1)
    best = int(means.argmin())
    if not np.isfinite(losses_BN).all():
        best = 0
    clearly = means[0] - means[best] > WORSE and gap(losses_BN[0], losses_BN[best]).low > 0
    return Beginnings(means.tolist(), best if clearly else None, sum(len(b) + len(row) for b in begins for row in rows))
