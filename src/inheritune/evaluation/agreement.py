"""Compare a model with its reference token by token, which shows what a mean loss does not.

How far its distributions are from the reference's, how often both choose the same next token, and the difference of their losses on
tokens that are rare in the text and on those that end a passage seen before in the window, as induction heads copy it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.stack import evaluating
from inheritune.evaluation.logits import logits_in_pieces, rows_at_once
from inheritune.evaluation.measure import OnRows
from inheritune.evidence.gap import clusters, gap
from inheritune.progress import Tally, silent
from inheritune.records.token_by_token import Agreement, Estimate

COMPARED = 16_384  # tokens whose distributions are compared
_RARE = 0.1  # of the text's tokens
_AT_ONCE = 128  # positions whose distributions stand in memory together
_PASSAGE = 3  # tokens, of which the last is copied


def agreement(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    own: OnRows,
    other: OnRows,
    confidence: float,
    count: Tally = silent,
) -> Agreement:
    """Compare both models on the same rows; `own` and `other` are the losses of model and reference on them, `count` counts rows."""
    asked = own.asked
    picked = _spread([len(row) for row in asked])
    apart = []
    for number, place in enumerate(picked, 1):
        apart.append(_apart(model, reference, own.rows[place], len(asked[place])))
        count(number, len(picked))

    def estimate(values: Sequence[np.ndarray], places: Sequence[int]) -> Estimate | None:
        return _estimate(values, own.sources, own.owner[list(places)], confidence)

    moved = [ours - theirs for ours, theirs in zip(own.losses, other.losses, strict=True)]
    rare = _rare(asked)
    repeated = [copied(row)[len(row) - len(kept) :] for row, kept in zip(own.rows, asked, strict=True)]
    every = range(len(moved))
    return Agreement(
        divergence=estimate([far for far, _ in apart], picked),
        same_choice=estimate([same for _, same in apart], picked),
        rare=estimate([row[kind] for row, kind in zip(moved, rare, strict=True)], every),
        copied=estimate([row[kind] for row, kind in zip(moved, repeated, strict=True)], every),
    )


def gap_by_position(own: OnRows, other: OnRows, confidence: float) -> list[Estimate | None]:
    """The gap in each band of `own.by_position`; None where fewer than two documents reach it."""
    moved = [ours - theirs for ours, theirs in zip(own.losses, other.losses, strict=True)]
    return [
        _estimate([row[band.first : band.last + 1] for row in moved], own.sources, own.owner, confidence)
        for band in own.by_position
    ]


def _spread(lengths: Sequence[int]) -> list[int]:
    """Indices of non-empty windows, spread evenly over the text, with about `COMPARED` tokens in all."""
    there = np.flatnonzero(lengths)
    wanted = max(2, -(-COMPARED * len(there) // sum(lengths)))
    return there[np.linspace(0, len(there) - 1, min(wanted, len(there))).astype(int)].tolist()


def _apart(
    model: PreTrainedModel, reference: PreTrainedModel, row: np.ndarray, asked: int
) -> tuple[np.ndarray, np.ndarray]:
    """KL(reference, model) in nats, and whether both choose the same token, at each of the last `asked` tokens of a window."""
    shared = min(one.config.get_text_config().vocab_size for one in (model, reference))
    rows = max(1, min(map(rows_at_once, (model, reference))) // _AT_ONCE) * _AT_ONCE
    found = []
    with evaluating(model), evaluating(reference):
        for pair in zip(*(_logits(one, row, asked, rows) for one in (model, reference)), strict=True):
            ours_TV, theirs_TV = (logits_TV.float().log_softmax(-1)[:, :shared] for logits_TV in pair)
            far_T = (theirs_TV.exp() * (theirs_TV - ours_TV)).sum(-1)
            found.append(torch.stack([far_T, (ours_TV.argmax(-1) == theirs_TV.argmax(-1)).float()]).cpu())
    far_T, same_T = torch.cat(found, dim=1).double().numpy()
    return far_T, same_T


def _logits(model: PreTrainedModel, row: np.ndarray, asked: int, rows: int) -> Iterator[Tensor]:
    """Yield the logits (T, V) of the last `asked` tokens, a few positions at a time."""
    ids_1T = torch.from_numpy(row[None, :-1].astype(np.int64)).to(model.device)
    left = ids_1T.numel() - asked
    for logits_TV in logits_in_pieces(model, ids_1T, rows):
        yield from logits_TV[left:].split(_AT_ONCE) if left < len(logits_TV) else ()
        left = max(0, left - len(logits_TV))


def _rare(asked: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which tokens are among the rarest tenth of the text; ties are included."""
    counts = Counter(np.concatenate(asked).tolist())
    left, most = _RARE * sum(counts.values()), 0
    for count, tokens in sorted(Counter(counts.values()).items()):
        if left <= 0:
            break
        left, most = left - count * tokens, count
    return [np.asarray([counts[token] <= most for token in row.tolist()], dtype=bool) for row in asked]


def copied(row: np.ndarray) -> np.ndarray:
    """Which ids of a row end a passage of three ids that occurred in the row before, (T,)."""
    seen, found = set[tuple[int, ...]](), np.zeros(len(row), dtype=bool)
    for end in range(_PASSAGE, len(row) + 1):
        passage = tuple(row[end - _PASSAGE : end].tolist())
        found[end - 1] = passage in seen
        seen.add(passage)
    return found


def _estimate(
    values: Sequence[np.ndarray], sources: np.ndarray, owner: np.ndarray, confidence: float
) -> Estimate | None:
    """The mean over all tokens of these windows; `owner` is each window's document, `sources` each document's book."""
    tokens, totals = (
        np.bincount(owner, each, minlength=len(sources))
        for each in ([len(row) for row in values], [row.sum() for row in values])
    )
    there = tokens > 0
    if there.sum() < 2:
        return None
    means = totals[there] / tokens[there]
    found = gap(means, np.zeros(len(means)), tokens[there], clusters(sources[there]), confidence=confidence)
    return Estimate(mean=found.mean, low=found.low, high=found.high, tokens=int(tokens.sum()))
