"""Losses of cuts, each read at as many token positions (places) as a comparison needs.

With a large vocabulary the head's product is the most expensive part of a cut. It is computed at an eighth of the places first,
chosen at random, the same for all cuts. One cut is called worse than another if the mean of their paired differences is more than
`SURE` standard errors from zero; closer cuts are read at twice as many places, and in the end at all. So the order is that of all
places, but for a chance of 1 in 100,000 per pair. With a small vocabulary all places are read at once.

Why 1 in 100,000: places are drawn without replacement from each sequence, so the variance of the mean is that of a stratified
sample. With `LEAST_READ` tokens, `LEAST_OF_EACH` or more of each sequence, it has at least 87 degrees of freedom, and beyond
4.8 standard errors Student's t has 3.3e-6 there. A pair is compared three times at most before all is read.

Shapes: B sequences, T tokens, P = T - 1 places with a token after them, N of them read.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from inheritune.decoder.anatomy import text_config
from inheritune.decoder.stack import Stack
from inheritune.diagnosis.deadline import UNLIMITED, TimeOver
from inheritune.diagnosis.statistics import standard_error
from inheritune.records.profile import Cut

LARGE_VOCABULARY = 1 << 14
FIRST_SHARE = LEAST_OF_EACH = 8
LEAST_READ = 100
SURE = 4.8


def first_places(places: int, sequences: int, vocabulary: int) -> int:
    """How many places of each sequence are read first; all if the vocabulary is small."""
    enough = max(-(-places // FIRST_SHARE), -(-LEAST_READ // sequences), LEAST_OF_EACH)
    return min(enough, places) if vocabulary >= LARGE_VOCABULARY else places


class Places:
    """The places of a stack's sequences, in the order in which they are read: `first` of each, then twice as many, then all."""

    def __init__(self, stack: Stack):
        losses_BP = stack.whole_token_losses
        vocabulary = text_config(stack.model.config).vocab_size
        self.sampled = vocabulary >= LARGE_VOCABULARY
        self.all = losses_BP.shape[1]
        self.first = first_places(self.all, len(losses_BP), vocabulary)
        generator = torch.Generator().manual_seed(0)
        self.order_BP = torch.rand(losses_BP.shape, generator=generator).argsort(1).to(losses_BP.device)


@dataclass
class Loss:
    """The loss of one list of blocks as far as it is read: `values_BN`, or one mean per sequence if no places are sampled.

    `hidden` computes the hidden state (B, T, D) after the blocks.
    """

    stack: Stack
    places: Places
    blocks: list[int]
    hidden: Callable[[], Tensor]
    values_BN: Tensor

    @classmethod
    def of(cls, stack: Stack, places: Places, blocks: list[int], hidden: Callable[[], Tensor]) -> "Loss":
        """Make a loss, and read it at the first places."""
        unread = stack.whole_token_losses[:, :0]
        loss = cls(stack, places, blocks, hidden, unread)
        loss.read(places.first)
        return loss

    @property
    def exact(self) -> bool:
        """Whether every place is read."""
        return not self.places.sampled or self.values_BN.shape[1] == self.places.all

    @property
    def whole_BN(self) -> Tensor:
        """The whole model's losses at the same places."""
        if not self.places.sampled:
            return self.stack.whole_losses[:, None]
        return self.stack.whole_token_losses.gather(1, self.places.order_BP[:, : self.values_BN.shape[1]])

    @property
    def rises_B(self) -> Tensor:
        """The mean rise over the whole model's loss, for each sequence."""
        return (self.values_BN - self.whole_BN).mean(1)

    @property
    def mean(self) -> float:
        """Mean over the sequences, in nats per token: the whole model's loss plus the rise at the places that are read."""
        if not self.places.sampled:
            return self.values_BN[:, 0].mean().item()
        return (self.stack.whole_losses + self.rises_B).mean().item()

    def read(self, count: int) -> None:
        """Read up to `count` places of each sequence."""
        had = self.values_BN.shape[1]
        if not self.places.sampled:
            self.values_BN = self.stack.losses(self.hidden())[:, None] if had == 0 else self.values_BN
        elif had < count:
            more_BN = self.stack.losses_at(self.hidden(), self.places.order_BP[:, had:count])
            self.values_BN = torch.cat([self.values_BN, more_BN], 1)
        if self.exact:
            self.hidden = _not_asked_again  # so that no hidden state is held for nothing

    def read_more(self) -> None:
        """Read twice as many places; no more than before if the time ends meanwhile."""
        with suppress(TimeOver):
            self.read(min(2 * self.values_BN.shape[1], self.places.all))

    def surely_above(self, other_BN: Tensor) -> bool:
        """Whether all places would show a higher loss than `other_BN`, another cut's values on the same places or more."""
        read = min(self.values_BN.shape[1], other_BN.shape[1])
        return self._least(self.values_BN[:, :read] - other_BN[:, :read]) > 0

    def surely_rises(self, bound: float) -> bool:
        """Whether all places would show a rise of more than `bound`."""
        return self._least(self.values_BN - self.whole_BN) > bound

    def _least(self, differences_BN: Tensor) -> float:
        """A lower bound on the mean over all places: `SURE` standard errors below that of the places read."""
        mean, read = differences_BN.mean().item(), differences_BN.shape[1]
        if not self.places.sampled or read == self.places.all:
            return mean
        variance_B = differences_BN.var(1) / read * (1 - read / self.places.all)
        return mean - SURE * variance_B.sum().sqrt().item() / len(variance_B)

    def cut(self) -> Cut:
        """The loss as a profile holds it."""
        rises_B = self.rises_B
        return Cut(
            removed=self.stack.depth - len(self.blocks),
            blocks=self.blocks,
            loss=self.mean,
            rise=rises_B.mean().item(),
            rise_se=standard_error(rises_B).item(),
        )


def _not_asked_again() -> Tensor:
    raise AssertionError("every place of this cut is read")


def least(losses: Sequence[Loss], late: Callable[[], bool] = UNLIMITED.over) -> Loss:
    """The lowest loss, the first of equals; once `late`, the lowest as far as they are read."""
    left = list(losses)
    while True:
        best = min(left, key=lambda loss: loss.mean)
        left = [loss for loss in left if loss is best or not loss.surely_above(best.values_BN)]
        if len(left) == 1 or all(loss.exact for loss in left) or not _read_more(left, late):
            return min(left, key=lambda loss: loss.mean)


def ascending(losses: Sequence[Loss], late: Callable[[], bool] = UNLIMITED.over) -> list[Loss]:
    """Sort losses from the lowest to the highest, equals in their order; once `late`, as far as they are read."""
    while True:
        order = sorted(losses, key=lambda loss: loss.mean)
        near = [
            loss
            for low, high in pairwise(order)
            if not high.surely_above(low.values_BN)
            for loss in (low, high)
            if not loss.exact
        ]
        if not near:
            return order
        read = min(loss.values_BN.shape[1] for loss in near)
        if not _read_more({id(loss): loss for loss in near if loss.values_BN.shape[1] == read}.values(), late):
            return sorted(losses, key=lambda loss: loss.mean)


def _read_more(losses: Iterable[Loss], late: Callable[[], bool]) -> bool:
    """Read twice as many places of each; False if the time is over before that."""
    for loss in losses:
        if late():
            return False
        loss.read_more()
    return True
