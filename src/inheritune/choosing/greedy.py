"""Greedy: of all the blocks still there, the one whose absence costs the least loss goes first."""

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import Choice
from inheritune.decoder.stack import Stack
from inheritune.records.profile import Profile


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile) -> Choice:
    """Remove one block after another by the loss on `tokens_BT` without any training."""
    stack = Stack(reference, tokens_BT)
    kept, gone = list(range(stack.depth)), []
    while len(kept) > 1:
        cheapest = _cheapest(stack, kept)
        kept.remove(cheapest)
        gone.append(cheapest)
    reason = (
        f"blocks are left out one by one, each time the one that costs the least loss on {tokens_BT.numel():,} tokens"
    )
    return Choice("greedy", reason, stack.depth, (*gone, *kept), tokens_BT.numel(), stack.flops)


def _cheapest(stack: Stack, kept: list[int]) -> int:
    """The block whose removal leaves the lowest loss; what stands before it is run once for all candidates."""
    losses: dict[int, float] = {}
    before = stack.hidden0
    for place, block in enumerate(kept):
        losses[block] = stack.loss(stack.run(before, kept[place + 1 :]))
        before = stack.run(before, [block])
    return min(losses, key=lambda block: (losses[block], -block))
