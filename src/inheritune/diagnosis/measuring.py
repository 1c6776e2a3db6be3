"""Measure everything that needs no surgery, in one pass over the sequences.

Shapes: N sequences in all, B sequences at a time, H heads, T tokens, L blocks, S = L + 1 hidden states.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.decoder.anatomy import Anatomy, anatomy, text_config
from inheritune.decoder.stack import evaluating, next_token_losses, run_until
from inheritune.diagnosis.columns import (
    column_energies,
    dominant_mass,
    entropy,
    previous_token_share,
    sink_shares,
)
from inheritune.diagnosis.deadline import UNLIMITED, TimeOver
from inheritune.diagnosis.influence import angular_distance, block_influence, cosines, recording
from inheritune.diagnosis.probe import probing
from inheritune.diagnosis.rank import approximate_rank
from inheritune.progress import Tally, silent

# One layer's maps and one batch's hidden states each stay below this; a single sequence may need more.
BATCH_BYTES = 64 * 2**20


@dataclass
class Measures:
    """Measures by sequence. `heads[layer]` maps a measure's name to (N, H) and is empty where no map was seen.

    `angles_SS` is the sum over the sequences of the angular distances between hidden states.
    """

    heads: list[dict[str, Tensor]]
    influence_NL: Tensor
    angles_SS: Tensor
    losses_N: Tensor

    @property
    def angular_SS(self) -> Tensor:
        """The mean angular distances."""
        return self.angles_SS / len(self.influence_NL)

    @classmethod
    def joined(cls, parts: Sequence["Measures"]) -> "Measures":
        """The measures of all these sequences."""
        return cls(
            [{name: torch.cat([one[name] for one in layer]) for name in layer[0]} for layer in _by_layer(parts)],
            torch.cat([part.influence_NL for part in parts]),
            sum((part.angles_SS for part in parts[1:]), parts[0].angles_SS),
            torch.cat([part.losses_N for part in parts]),
        )


def _by_layer(parts: Sequence[Measures]) -> Iterator[tuple[dict[str, Tensor], ...]]:
    return zip(*(part.heads for part in parts), strict=True)


@dataclass
class _Collector:
    """Keeps a few numbers for each attention map of a batch, not the map itself."""

    threshold: float
    seen: dict[tuple[int, str], list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
        for name, values_BH in self._measures(maps_BHTT).items():
            self.seen[layer, name].append(values_BH.double().cpu())

    def saw_output(self, layer: int, share_BH: Tensor) -> None:
        self.seen[layer, "output"].append(share_BH.double().cpu())

    def _measures(self, maps_BHTT: Tensor) -> dict[str, Tensor]:
        energies_BHT = column_energies(maps_BHTT)
        first_BH, heaviest_BH = sink_shares(maps_BHTT)
        return {
            "rank": approximate_rank(maps_BHTT, self.threshold, energies_BHT),
            "mass": dominant_mass(energies_BHT, self.threshold),
            "first_key": first_BH,
            "heaviest_key": heaviest_BH,
            "previous": previous_token_share(maps_BHTT),
            "entropy": entropy(maps_BHTT),
        }

    def end_batch(self, layers: int) -> list[dict[str, Tensor]]:
        """Return what was seen of each layer; several maps of one layer (two attentions in a block) are concatenated as heads."""
        found: list[dict[str, Tensor]] = [{} for _ in range(layers)]
        for (layer, name), values in self.seen.items():
            found[layer][name] = torch.cat(values, 1)
        self.seen.clear()
        return found


Known = Callable[[Callable[[], Measures]], Measures]
"""Gives the measures of the next batch: what is known of it, or what the function that is handed in measures."""


def measure_anew(measure: Callable[[], Measures]) -> Measures:
    """Measure every batch: the default `Known`, which knows nothing."""
    return measure()


def measure_sequences(
    model: PreTrainedModel,
    sequences: list[Tensor],
    threshold: float,
    count: Tally = silent,
    *,
    unasked: int = 0,
    losses: bool = True,
    late: Callable[[], bool] = UNLIMITED.over,
    known: Known = measure_anew,
) -> Measures:
    """Run every sequence (unpadded, 1-D) once and measure maps, hidden states and losses; `count` counts sequences.

    Losses are of all tokens but the first and the `unasked` ones after it; without `losses` the head is never called. Once `late`,
    no batch but the first is begun; one that `Deadline.ending` ends is dropped. `known` may have a batch's measures already.
    Raises TimeOver if the time ends within the first batch.
    """
    parts, collector = anatomy(model), _Collector(threshold)
    device = next(model.parameters()).device
    found, done = list[Measures](), 0
    count(done, len(sequences))

    def measure(tokens_BT: Tensor) -> Measures:
        losses_B = torch.empty(0, dtype=torch.float64)
        with recording(parts.blocks) as states:
            if losses:
                logits_BTV = model(tokens_BT, use_cache=False).logits
                losses_B = next_token_losses(logits_BTV, tokens_BT, unasked).mean(1).cpu()
            else:
                run_until(model, parts.head, tokens_BT)
        cosines_BTSS = cosines(states)
        influence_BL, angles_SS = block_influence(cosines_BTSS), angular_distance(cosines_BTSS).sum(0)
        return Measures(collector.end_batch(parts.depth), influence_BL.double().cpu(), angles_SS.cpu(), losses_B)

    with evaluating(model), probing(model, collector):
        for tokens_BT in batches(sequences, model, parts):
            if late() and found:
                break
            try:
                found.append(known(partial(measure, tokens_BT.to(device))))
            except TimeOver:
                if not found:
                    raise
                break
            done += len(tokens_BT)
            count(done, len(sequences))
    return Measures.joined(found)


def batches(sequences: list[Tensor], model: PreTrainedModel, parts: Anatomy) -> Iterator[Tensor]:
    """Sequences of one length stacked, (B, T), as many at a time as fit in `BATCH_BYTES`."""
    config = text_config(model.config)
    heads, width = getattr(config, "num_attention_heads", 1) or 1, config.hidden_size
    for length, alike in by_length(sequences).items():
        largest = max(heads * length**2, (parts.depth + 1) * length * width, length * config.vocab_size)
        yield from torch.stack(alike).split(max(1, BATCH_BYTES // (4 * largest)))


def by_length(sequences: list[Tensor]) -> dict[int, list[Tensor]]:
    """Sequences grouped by their length, in the order in which lengths first appear."""
    groups: dict[int, list[Tensor]] = defaultdict(list)
    for sequence in sequences:
        groups[len(sequence)].append(sequence)
    return groups
