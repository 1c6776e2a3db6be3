"""Greedy: always remove the remaining block whose absence raises the loss least."""

import time
from collections.abc import Callable
from itertools import count

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing.choice import FULL_SEARCH, Ordering, Search, by_score
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import Stack
from inheritune.diagnosis.cuts import Loss, Places, least
from inheritune.diagnosis.deadline import Deadline
from inheritune.disk.kept import Kept
from inheritune.progress import Tally, ending
from inheritune.report import words
from inheritune.report.profile import Profile
from inheritune.runtime import processes


def order(reference: PreTrainedModel, tokens_BT: Tensor, profile: Profile, search: Search = FULL_SEARCH) -> Ordering:
    """Remove one block after another by the loss on `tokens_BT`, without any training.

    The search ends at the shallowest depth wanted, at a hopeless cut, or when the time is over. The blocks that are left then are
    ordered by influence.
    """
    began = time.monotonic()
    search.count(0, _tried(anatomy(reference).depth, search.shallowest))  # before the first pass, which takes a while
    stack = Stack(reference, tokens_BT, search.unasked, precision=search.precision)
    question = {"whole": stack.whole_losses.tolist(), "depth": stack.depth}
    kept = processes.main_first(lambda: Kept(search.kept, question, writes=processes.is_main()))
    processes.meet()  # every process has read it before anything is added
    held, gone, spent, hopeless = list(range(stack.depth)), list[int](), 0.0, False
    for step in kept.results:
        hopeless = search.hopeless(step["lost"])
        held.remove(step["gone"])
        gone.append(step["gone"])
        stack.block_passes, stack.head_passes, spent = step["block_passes"], step["head_passes"], step["seconds"]
    taken = spent + time.monotonic() - began
    deadline = Deadline.after(None if search.minutes is None else search.minutes - taken / 60)

    def over() -> bool:
        return bool(processes.agreed(deadline.over()))

    told = _telling(ending(search.count, deadline.until), stack.depth, len(held), search.shallowest)
    places, late = Places(stack), False
    while len(held) > search.shallowest and not late and not hopeless:
        cheapest, lost = _cheapest(stack, places, held, told, over)
        hopeless = search.hopeless(lost)
        held.remove(cheapest)
        gone.append(cheapest)
        passes = {"block_passes": stack.block_passes, "head_passes": stack.head_passes}
        kept.add({"gone": cheapest, "lost": lost, **passes, "seconds": spent + time.monotonic() - began})
        late = over()
    rest = [held[i] for i in by_score([profile.layers[block].influence for block in held])] if len(held) > 1 else held
    early = ""
    if len(held) > search.shallowest and hopeless:
        early = ", where a match is too unlikely"
    elif len(held) > search.shallowest:
        early = _over(stack, len(held), search.shallowest, spent + time.monotonic() - began)
    down = f", down to {len(held)} blocks{early}, and the rest by influence" if len(held) > 1 else ""
    reason = f"blocks are left out one by one, each time the one that costs the least loss on {tokens_BT.numel():,} tokens{down}"
    return Ordering("greedy", reason, stack.depth, (*gone, *rest), tokens_BT.numel(), stack.flops)


def _telling(tell: Tally, depth: int, left: int, shallowest: int) -> Callable[[], None]:
    """Return a function that counts the cuts tried; it continues the count from before a stop."""
    tried, wanted = (_tried(depth, low) for low in (left, shallowest))
    if tried:
        tell(tried, wanted)
    numbers = count(tried + 1)
    return lambda: tell(next(numbers), wanted)


def passes_of_search(held: int, shallowest: int) -> int:
    """The most passes through a block that a search from `held` blocks down to `shallowest` takes."""
    return sum(blocks * (blocks + 1) // 2 for blocks in range(shallowest + 1, held + 1))


def _over(stack: Stack, held: int, shallowest: int, took: float) -> str:
    """Say that the time was over at `held` blocks, and how long the rest down to `shallowest` takes at the pace of block passes so far."""
    left = words.about(took * passes_of_search(held, shallowest) / stack.block_passes)
    return f"; at {held} the time was over (down to {shallowest} takes at most about {left} more)"


def _tried(depth: int, left: int) -> int:
    """The number of cuts tried from `depth` down to `left` blocks: k while there are k blocks."""
    return sum(range(left + 1, depth + 1))


def _cheapest(
    stack: Stack, places: Places, held: list[int], told: Callable[[], None], late: Callable[[], bool]
) -> tuple[int, float]:
    """Find the block whose removal leaves the lowest loss (among equals the deepest), and how much that cut loses to the whole model.

    The blocks before a candidate are run once for all candidates.
    """
    found: list[tuple[Loss, int]] = []
    before = stack.hidden0
    for place, block in enumerate(held):
        after = stack.run(before, held[place + 1 :])
        found.append((Loss.of(stack, places, held[:place] + held[place + 1 :], _returning(after)), block))
        before = stack.run(before, [block])
        told()
    found.reverse()
    lowest = least([loss for loss, _ in found], late)
    return next(block for loss, block in found if loss is lowest), lowest.rises_B.mean().item()


def _returning(hidden: Tensor) -> Callable[[], Tensor]:
    return lambda: hidden
