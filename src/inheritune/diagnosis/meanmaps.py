"""Mean attention maps of a few heads, to look at (the paper's Figure 1, left).

Shapes: H heads, T tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import evaluating, run_until
from inheritune.diagnosis.probe import probing
from inheritune.progress import Tally, silent
from inheritune.report.profile import Profile

# Sequences that are run together.
AT_ONCE = 4


@dataclass
class _Summer:
    wanted: dict[str, tuple[int, int]]
    sums: dict[str, Tensor] = field(default_factory=dict)

    def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
        for name, (at, head) in self.wanted.items():
            if at == layer and head < maps_BHTT.shape[1]:
                self.sums[name] = self.sums.get(name, 0) + maps_BHTT[:, head].sum(0).float().cpu()

    def saw_output(self, layer: int, share_BH: Tensor) -> None:
        """Ignored."""


def telling_heads(profile: Profile) -> dict[str, tuple[int, int]]:
    """(layer, head) of the widest, the middle and the laziest head, keyed by a name for each; the deepest where ranks tie.

    No head is named twice, so that a model of one head has one telling head.
    """
    left = sorted((head.rank, layer.index, i) for layer in profile.layers for i, head in enumerate(layer.heads))
    places: dict[str, Callable[[], int]] = {
        "widest": lambda: -1,
        "laziest": lambda: sum(rank == left[0][0] for rank, _, _ in left) - 1,
        "middle": lambda: len(left) // 2,
    }
    chosen = {name: left.pop(place()) for name, place in places.items() if left}
    shown = {name: chosen[name] for name in ("widest", "middle", "laziest") if name in chosen}
    return {f"{name}: layer {at}, head {i}, k* {rank:.1f}": (at, i) for name, (rank, at, i) in shown.items()}


def mean_maps(
    model: PreTrainedModel, tokens_NT: Tensor, heads: dict[str, tuple[int, int]], count: Tally = silent
) -> dict[str, Tensor]:
    """The mean map (T, T) over sequences of one length of each named (layer, head); `count` counts sequences."""
    summer, done, parts = _Summer(heads), 0, anatomy(model)
    behind = max((layer for layer, _ in heads.values()), default=-1) + 1
    end = parts.blocks[behind] if behind < parts.depth else parts.head
    count(done, len(tokens_NT))
    with evaluating(model), probing(model, summer):
        for part in torch.as_tensor(tokens_NT).long().split(AT_ONCE):
            run_until(model, end, part.to(model.device))
            done += len(part)
            count(done, len(tokens_NT))
    return {name: total / len(tokens_NT) for name in heads if (total := summer.sums.get(name)) is not None}
