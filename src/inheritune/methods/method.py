"""What a method is: how its target starts, in one phase or more, and what its loss is. The training loop is the same for all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from torch import Tensor
from transformers import PreTrainedModel

from inheritune.choosing import CRITERIA, Ordering, Search
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.diagnosis.diagnose import diagnose
from inheritune.progress import Tell, silent
from inheritune.records.cells import ChosenBlocks
from inheritune.records.entry import NOTHING_SPENT, Spent
from inheritune.surgery.heal import heal

_CHOICE, _HEAL = 12, 32_768

Keep = Callable[[str, Callable[[], ChosenBlocks]], ChosenBlocks]
Matched = Literal["tokens", "total-flops"]


@dataclass
class Given:
    """What a method may use to start.

    `depth` is the target's number of blocks, `seed` the seed of fresh weights, `length` the tokens of a training sequence.
    `sequences(count, length)` returns training text as ids (count, length); a diagnosis reads `diagnosed` = (count, length)
    of it. Losses leave out the first token of a sequence and the `unasked` ones after it. `spent` adds up what the start
    costs before training: diagnosis, choice, repair; `tell` receives their progress. `keep(name, make)` calls `make` once in
    a sweep and returns its result to every cell that asks for that name; each of these cells is charged for it.
    """

    reference: PreTrainedModel
    depth: int
    seed: int
    length: int
    sequences: Callable[[int, int], Tensor]
    diagnosed: tuple[int, int] = (16, 100)
    unasked: int = 0
    keep: Keep = field(default=lambda criterion, make: make())
    spent: Spent = NOTHING_SPENT
    tell: Tell = silent

    @property
    def whole(self) -> int:
        """The reference's depth."""
        return anatomy(self.reference).depth

    def chosen(self, criterion: str) -> list[int]:
        """The blocks of a target of this depth by a criterion of `choosing/`."""
        found = self.keep(criterion, lambda: self._choose(criterion))
        self.spent += found.spent
        return found.blocks

    def _choose(self, criterion: str) -> ChosenBlocks:
        profile_BT, choice_BT = self.sequences(*self.diagnosed), self.sequences(_CHOICE, self.length)
        profile = diagnose(
            self.reference, profile_BT, unasked=self.unasked, curve_sequences=0, untrained=False, tell=self.tell
        )
        search = Search(self.depth, unasked=self.unasked, count=partial(self.tell, f"Choice of blocks: {criterion}"))
        choice: Ordering = CRITERIA[criterion](self.reference, choice_BT, profile, search)
        read = profile.tokens * forward_flops_per_token(self.reference, profile_BT.shape[1])
        spent = Spent(tokens=profile.tokens + choice.tokens, flops=read + choice.flops, seconds=profile.seconds)
        return ChosenBlocks(blocks=choice.blocks(self.depth), spent=spent)

    def heal(self, target: PreTrainedModel, blocks: list[int]) -> PreTrainedModel:
        """Repair a cut in place, in closed form."""
        tokens_BT = self.sequences(max(2, _HEAL // self.length), self.length)
        count = partial(self.tell, "Repair")
        healed = heal(target, self.reference, blocks, tokens_BT, unasked=self.unasked, count=count)
        self.spent += Spent(tokens=healed.tokens, flops=float(healed.flops), seconds=0.0)
        return target


Start = Callable[[Given, PreTrainedModel | None], PreTrainedModel]


@dataclass(frozen=True)
class Phase:
    """A part of a method's training.

    `start` makes the phase's model from that of the phase before (None in the first). `share` is the phase's tokens as a
    share of a one-phase method's. `schedule` replaces the recipe's in this phase.
    """

    start: Start
    share: float = 1.0
    schedule: str | None = None


@dataclass(frozen=True)
class Method:
    """A way to a smaller model.

    `objective` is set over the defaults of `Objective`. `needs_reference` says whether the method uses the reference at all. With `spends`
    "total-flops" it trains until it has spent what `inheritune` spends in all, whatever the recipe's budget is.
    """

    says: str
    phases: tuple[Phase, ...]
    needs_reference: bool = True
    objective: Mapping[str, Any] = field(default_factory=dict)
    spends: Matched | None = None
