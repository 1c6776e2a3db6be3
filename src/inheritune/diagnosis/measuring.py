"""One pass over the sequences, in which everything that needs no surgery is measured.

Shapes: N sequences in all, B sequences at a time, H heads, T tokens, L blocks, S = L + 1 hidden states.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

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
from inheritune.diagnosis.deadline import UNLIMITED
from inheritune.diagnosis.influence import angular_distance, block_influence, cosines, recording
from inheritune.diagnosis.probe import probing
from inheritune.diagnosis.rank import approximate_rank
from inheritune.progress import Tally, silent

# One layer's maps and one batch's hidden states each stay below this; a single sequence may need more.
BATCH_BYTES = 64 * 2**20


@dataclass
class Measures:
    """Measures by sequence. `heads[layer]` maps a measure's name to (N, H) and is empty where no map was seen."""

    heads: list[dict[str, Tensor]]
    influence_NL: Tensor
    angular_SS: Tensor
    losses_N: Tensor

    def __add__(self, more: "Measures") -> "Measures":
        """The measures of these sequences and of `more`."""
        one, two = len(self.losses_N), len(more.losses_N)
        return Measures(
            [
                {name: torch.cat([had[name], new[name]]) for name in had}
                for had, new in zip(self.heads, more.heads, strict=True)
            ],
            torch.cat([self.influence_NL, more.influence_NL]),
            (one * self.angular_SS + two * more.angular_SS) / (one + two),
            torch.cat([self.losses_N, more.losses_N]),
        )


@dataclass
class _Collector:
    """Keeps a few numbers of each map and lets the map go."""

    threshold: float
    layers: int
    batch: dict[tuple[int, str], list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    done: dict[tuple[int, str], list[Tensor]] = field(default_factory=lambda: defaultdict(list))

    def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
        for name, values_BH in self._measures(maps_BHTT).items():
            self.batch[layer, name].append(values_BH.double().cpu())

    def saw_output(self, layer: int, share_BH: Tensor) -> None:
        self.batch[layer, "output"].append(share_BH.double().cpu())

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

    def end_batch(self) -> None:
        """Several maps of one layer (two attentions in a block) stand side by side as heads."""
        for key, values in self.batch.items():
            self.done[key].append(torch.cat(values, 1))
        self.batch.clear()

    def result(self) -> list[dict[str, Tensor]]:
        found: list[dict[str, Tensor]] = [{} for _ in range(self.layers)]
        for (layer, name), values in self.done.items():
            found[layer][name] = torch.cat(values)
        return found


def measure_sequences(
    model: PreTrainedModel,
    sequences: list[Tensor],
    threshold: float,
    count: Tally = silent,
    *,
    unasked: int = 0,
    losses: bool = True,
    late: Callable[[], bool] = UNLIMITED.over,
) -> Measures:
    """Run every sequence (unpadded, 1-D) once and measure maps, hidden states and losses; `count` counts sequences.

    Losses are of all tokens but the first and the `unasked` after it; without `losses` the head is never called. Once `late`, no further batch is begun.
    """
    parts = anatomy(model)
    collector = _Collector(threshold, parts.depth)
    device = next(model.parameters()).device
    influence, found, angular = [], [torch.empty(0)], torch.zeros(parts.depth + 1, parts.depth + 1)
    done = 0
    count(done, len(sequences))
    with evaluating(model), probing(model, collector):
        for tokens_BT in batches(sequences, model, parts):
            tokens_BT = tokens_BT.to(device)
            with recording(parts.blocks) as states:
                if losses:
                    logits_BTV = model(tokens_BT, use_cache=False).logits
                    found.append(next_token_losses(logits_BTV, tokens_BT, unasked).mean(1).cpu())
                else:
                    run_until(model, parts.head, tokens_BT)
            collector.end_batch()
            cosines_BTSS = cosines(states)
            influence.append(block_influence(cosines_BTSS).double().cpu())
            angular += angular_distance(cosines_BTSS).sum(0).cpu()
            done += len(tokens_BT)
            count(done, len(sequences))
            if done < len(sequences) and late():
                break
    return Measures(collector.result(), torch.cat(influence), angular / done, torch.cat(found))


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
