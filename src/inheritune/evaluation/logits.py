"""A model's logits in pieces, if those of a whole batch would not fit in memory: the blocks run once, the head piece by piece."""

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy, embedding_rows
from inheritune.decoder.outputs import answering

MOST = 1 << 27  # logits that stand in memory together


def rows_at_once(model: PreTrainedModel) -> int:
    """Positions whose logits may stand in memory together."""
    return max(1, MOST // embedding_rows(model))


def logits_in_pieces(model: PreTrainedModel, ids_BT: Tensor, rows: int) -> Iterator[Tensor]:
    """The logits (N, V) of N = B * T positions, `rows` of them at a time, equal to those of one pass within rounding.

    What a model does to its logits after the head (a scale, a softcap) is done to each piece, by a pass of one token in which the
    head is replaced by one that returns the piece.
    """
    if ids_BT.numel() <= rows:
        yield model(input_ids=ids_BT, use_cache=False).logits.flatten(0, 1)
        return
    head, entered = anatomy(model).head, list[Tensor]()
    own = head.forward

    def noted(states: Tensor) -> Tensor:
        entered.append(states)
        return states

    with answering(head, noted):
        model(input_ids=ids_BT, use_cache=False)
    for states in entered[0].flatten(0, 1).split(rows):
        with answering(head, partial(_of, own, states[None])):
            logits = model(input_ids=ids_BT[:1, :1], use_cache=False).logits[0]
        yield logits


def _of(head: Callable[[Tensor], Tensor], states: Tensor, _entered: Tensor) -> Tensor:
    return head(states)
