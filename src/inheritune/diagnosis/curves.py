"""The inheritance curve: the loss of what is left when blocks go, measured by running it.

Shapes: B sequences, T tokens, D hidden size, S = L + 1 hidden states of a model of L blocks.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from inheritune.decoder.stack import Stack
from inheritune.diagnosis.cuts import Loss, Places, ascending, least
from inheritune.diagnosis.deadline import UNLIMITED, Deadline, Pace, TimeOver
from inheritune.diagnosis.suggestion import LARGEST_RISE, fits
from inheritune.disk.kept import Kept
from inheritune.progress import Tally, silent
from inheritune.records.profile import Curves, Cut

SHORTLIST = 3
# Memory for hidden states of cuts, kept in case they are read at more places later.
HELD_BYTES = 1 << 29


@dataclass
class _Bench:
    """Cuts of one stack, each measured once; hidden states before every block are kept, so a shared prefix is free."""

    stack: Stack
    kept: Kept
    count: Tally
    wanted: int
    pace: Pace
    asked: int = 0
    measured: set[tuple[int, ...]] = field(default_factory=set)
    cut_short: bool = False
    states: list[Tensor] = field(default_factory=list)
    losses: dict[tuple[int, ...], Loss] = field(default_factory=dict)
    held: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.places = Places(self.stack)
        self.room = HELD_BYTES // self.stack.hidden0.nbytes if self.places.sampled else 0
        self.states.append(self.stack.hidden0)
        for index in range(self.stack.depth):
            self.states.append(self.stack.run(self.states[-1], [index]))
        for result in self.kept.results:
            values_BN = torch.tensor(result["values"], dtype=torch.float64).to(self.stack.whole_token_losses)
            self.losses[tuple(result["blocks"])] = self._loss(result["blocks"], values_BN)
            self.stack.block_passes += result["block_passes"]
            self.stack.head_passes += result["head_passes"]

    def measure(self, blocks: list[int]) -> Loss:
        key = tuple(blocks)
        if key not in self.losses:
            before = self.stack.block_passes, self.stack.head_passes
            self.losses[key] = self._loss(blocks)
            spent = self.stack.block_passes - before[0], self.stack.head_passes - before[1]
            values = self.losses[key].values_BN.tolist()
            self.kept.add({"blocks": blocks, "values": values, "block_passes": spent[0], "head_passes": spent[1]})
        self.asked += 1
        self.measured.add(key)
        self.count(self.asked, self.wanted)
        return self.losses[key]

    def late(self) -> bool:
        """Whether the time for cuts is over; called before any further work, which is then left undone."""
        self.cut_short = self.cut_short or self.pace.late()
        return self.cut_short

    @contextmanager
    def in_time(self) -> Iterator[None]:
        """Run a block that ends early, without an error, when the time is over."""
        try:
            yield
        except TimeOver:
            self.cut_short = True

    def _loss(self, blocks: list[int], values_BN: Tensor | None = None) -> Loss:
        hidden = partial(self._hidden, blocks)
        if values_BN is None:
            return Loss.of(self.stack, self.places, blocks, hidden)
        return Loss(self.stack, self.places, blocks, hidden, values_BN)

    def _hidden(self, blocks: list[int]) -> Tensor:
        """The hidden state after these blocks, kept if it may be needed again and there is room."""
        if (key := tuple(blocks)) in self.held:
            return self.held[key]
        shared = next((i for i, block in enumerate(blocks) if block != i), len(blocks))
        hidden = self.stack.run(self.states[shared], blocks[shared:])
        if len(self.held) < self.room:
            self.held[key] = hidden
        return hidden


def inheritance_curves(
    stack: Stack,
    angular_SS: Tensor,
    count: Tally = silent,
    deadline: Deadline = UNLIMITED,
    place: Path | None = None,
) -> tuple[Curves, dict[int, Cut]]:
    """Measure three cuts for every depth (the first n blocks, the best run removed, scattered removals), and every block left out.

    For each number of removed blocks, from one on, `angular_SS` shortlists three runs, whose losses are then measured. Scattered
    removals follow the order of the leave-one-out losses. All together cost less than 4 L passes through the stack of L blocks. No
    cut is begun or read further if it seems not to end before the deadline, and a pass that `Deadline.ending` ends is dropped. What
    is measured is kept at `place`, so that it is not measured again after a stop. `count` counts cuts. Raises TimeOver if the time
    ends before the first cut.
    """
    depth = stack.depth
    everything = list(range(depth))
    shortlists = [_shortlist(depth, angular_SS, removed) for removed in range(1, depth)]
    count(0, wanted := 2 * (depth - 1) + (depth if depth > 1 else 0) + sum(map(len, shortlists)))
    kept = Kept(place, {"whole": stack.whole_losses.tolist(), "depth": depth})
    bench = _Bench(stack, kept, count, wanted, Pace(deadline))
    began, before = time.monotonic(), stack.block_passes
    first, run, scattered, without = list[Loss](), list[Loss](), list[Loss](), dict[int, Loss]()
    with bench.in_time():
        for removed, shortlist in enumerate(shortlists, 1):
            if bench.late():
                break
            first.append(bench.measure(everything[: depth - removed]))
            if removed == 1:
                without = _without(bench, shortlist)
                order = [_missing(loss) for loss in ascending([without[at] for at in sorted(without)], bench.late)]
            if len(without) < depth:
                run = scattered = [least(list(without.values()), bench.late)] if without else []
                break
            run.append(least([bench.measure(blocks) for blocks in shortlist], bench.late))
            scattered.append(bench.measure(sorted(order[removed:])))
    _settle([*first, *run, *scattered], bench)
    took, passes = time.monotonic() - began, stack.block_passes - before
    left, passes_left = _left_out(bench, shortlists, len(scattered)), passes_of_curves(depth)[0] - stack.block_passes
    curves = Curves(
        whole_loss=stack.whole_losses.mean().item(),
        first=[loss.cut() for loss in first],
        run=[loss.cut() for loss in run],
        scattered=[loss.cut() for loss in scattered],
        sequences=len(stack.whole_losses),
        tokens=sum(part.numel() for part in stack.tokens),
        measured=len(bench.measured),
        places=bench.places.first if bench.places.sampled else None,
        left_out=left,
        seconds_left=max(0.0, passes_left) * took / passes if left and passes else None,
        cut_short=bench.cut_short,
        block_passes=stack.block_passes,
        head_passes=round(stack.head_passes),
    )
    return curves, {block: loss.cut() for block, loss in sorted(without.items())}


def passes_of_curves(depth: int) -> tuple[float, int]:
    """Estimate how many passes through a single block the curves of a model of `depth` blocks take; and the number of cuts.

    The first blocks that a cut shares with the whole model are free, and runs are assumed to begin anywhere.
    """
    several = range(2, depth)
    shortlisted = {removed: min(SHORTLIST, depth - removed + 1) for removed in several}
    runs = sum(shortlisted[removed] * (depth - removed) / 2 for removed in several)
    scattered = sum((depth - removed) * removed / (removed + 1) for removed in several)
    cuts = 2 * depth - 1 + sum(shortlisted[removed] + 1 for removed in several)
    return depth + depth * (depth - 1) / 2 + runs + scattered, cuts


def _left_out(bench: _Bench, shortlists: list[list[list[int]]], scattered: int) -> int:
    """How many of the wanted cuts were not measured.

    Scattered removals of two and more blocks count as one for each number: which blocks they are, only the order of losses decides.
    """
    depth = bench.stack.depth
    known = {tuple(blocks) for shortlist in shortlists for blocks in shortlist}
    known |= {tuple(range(count)) for count in range(1, depth)}
    return len(known - bench.measured) + max(0, depth - 2) - max(0, scattered - 1)


def _without(bench: _Bench, singles: list[list[int]]) -> dict[int, Loss]:
    """The losses without each single block, in the order of `singles`, as many as the time allows."""
    found: dict[int, Loss] = {}
    with bench.in_time():
        for blocks in singles:
            if found and bench.late():
                break
            loss = bench.measure(blocks)
            found[_missing(loss)] = loss
    return found


def _missing(loss: Loss) -> int:
    """The one block that is left out."""
    return next(block for block in range(loss.stack.depth) if block not in loss.blocks)


def _settle(losses: list[Loss], bench: _Bench) -> None:
    """Read in full the cuts that decide the suggestion: from the fewest blocks on, all that may start near enough, until one does."""
    for size in sorted({len(loss.blocks) for loss in losses}):
        alike = [loss for loss in losses if len(loss.blocks) == size]
        for loss in alike:
            while not loss.exact and not loss.surely_rises(LARGEST_RISE):
                if bench.late():
                    return
                loss.read_more()
        if any(fits(loss.cut()) for loss in alike if loss.exact):
            return


def _shortlist(depth: int, angular_SS: Tensor, removed: int) -> list[list[int]]:
    """The blocks left without each of the `SHORTLIST` runs of `removed` blocks that turn the hidden state least; of single blocks, all."""
    nearest = sorted(range(depth - removed + 1), key=lambda i: angular_SS[i, i + removed].item())
    starts = nearest if removed == 1 else nearest[:SHORTLIST]
    return [[*range(start), *range(start + removed, depth)] for start in starts]
