"""The inheritance curve: the loss of what is left when blocks go, measured by running it.

Shapes: B sequences, T tokens, D hidden size, S = L + 1 hidden states of a model of L blocks.
"""

from dataclasses import dataclass, field

from torch import Tensor

from inheritune.decoder.stack import Stack
from inheritune.diagnosis.statistics import standard_error
from inheritune.progress import Count, silent
from inheritune.records.profile import Curves, Cut

SHORTLIST = 3


@dataclass
class _Bench:
    """Cuts of one stack, each measured once; hidden states before every block are kept, so a shared prefix is free."""

    stack: Stack
    count: Count
    wanted: int
    asked: int = 0
    states: list[Tensor] = field(default_factory=list)
    cuts: dict[tuple[int, ...], Cut] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.states.append(self.stack.hidden0)
        for index in range(self.stack.depth):
            self.states.append(self.stack.run(self.states[-1], [index]))

    def measure(self, blocks: list[int]) -> Cut:
        key = tuple(blocks)
        if key not in self.cuts:
            shared = next((i for i, block in enumerate(blocks) if block != i), len(blocks))
            hidden = self.stack.run(self.states[shared], blocks[shared:])
            self.cuts[key] = self._cut(blocks, self.stack.losses(hidden))
        self.asked += 1
        self.count(self.asked, self.wanted)
        return self.cuts[key]

    def _cut(self, blocks: list[int], losses_B: Tensor) -> Cut:
        rise_B = losses_B - self.stack.whole_losses
        removed = self.stack.depth - len(blocks)
        return Cut(
            removed=removed,
            blocks=blocks,
            loss=losses_B.mean().item(),
            rise=rise_B.mean().item(),
            rise_se=standard_error(rise_B).item(),
        )


def inheritance_curves(stack: Stack, angular_SS: Tensor, count: Count = silent) -> tuple[Curves, list[Cut]]:
    """Measure the first n blocks, the best run removed and scattered removals for every depth; and every block left out.

    For each number removed, `angular_SS` shortlists three runs, which are then run. Scattered removals follow the order
    of the leave-one-out losses. All together cost less than 4 L passes through the stack of L blocks. `count` counts cuts.
    """
    depth = stack.depth
    everything = list(range(depth))
    shortlists = [_shortlist(depth, angular_SS, removed) for removed in range(1, depth)]
    count(0, wanted := 2 * (depth - 1) + (depth if depth > 1 else 0) + sum(map(len, shortlists)))
    bench = _Bench(stack, count, wanted)
    first = [bench.measure(everything[: depth - removed]) for removed in range(1, depth)]
    without = [bench.measure(everything[:i] + everything[i + 1 :]) for i in everything] if depth > 1 else []
    run = [min(map(bench.measure, shortlist), key=lambda cut: cut.loss) for shortlist in shortlists]
    order = sorted(range(len(without)), key=lambda i: without[i].loss)
    scattered = [bench.measure(sorted(order[removed:])) for removed in range(1, depth)]
    whole = stack.whole_losses.mean().item()
    curves = Curves(
        whole_loss=whole,
        first=first,
        run=run,
        scattered=scattered,
        sequences=len(stack.whole_losses),
        block_passes=stack.block_passes,
        head_passes=stack.head_passes,
    )
    return curves, without


def _shortlist(depth: int, angular_SS: Tensor, removed: int) -> list[list[int]]:
    """What the runs of that length leave that change the direction of the hidden state least; of single blocks, all."""
    nearest = sorted(range(depth - removed + 1), key=lambda i: angular_SS[i, i + removed].item())
    starts = nearest if removed == 1 else nearest[:SHORTLIST]
    return [[*range(start), *range(start + removed, depth)] for start in starts]
