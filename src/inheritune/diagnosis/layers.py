"""Summarise measures by sequence into layers and heads with their errors, and tell which of them are lazy.

Shapes: N sequences, H heads, L blocks.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from inheritune.diagnosis.gradients import Norms
from inheritune.diagnosis.measuring import Measures
from inheritune.diagnosis.statistics import mean_and_error, probability_below, standard_error, wilson
from inheritune.records.profile import ATTENTION, OTHER, SLIDING, SURE, Contrast, Curves, Cut, Head, Layer

LAZY_RANK = 1.5
"""A head is lazy in the useful sense when its mean k* is at most this."""


def summarise(
    measured: Measures,
    curves: Curves | None = None,
    without: Mapping[int, Cut] | None = None,
    gradients: list[Norms | None] | None = None,
    windows: Sequence[int | None] = (),
) -> list[Layer]:
    """One `Layer` for each block; `without` holds the cuts that lack one block, by that block.

    `windows` are how far each layer's queries look back (None: to all tokens).
    """
    depth, without = len(measured.heads), without or {}
    exits = {len(cut.blocks) - 1: cut.loss for cut in curves.first} | {depth - 1: curves.whole_loss} if curves else {}
    layers = []
    for index, heads in enumerate(measured.heads):
        influence, influence_se = mean_and_error(measured.influence_NL[:, index])
        norms = gradients[index] if gradients else None
        alone = without.get(index)
        window = windows[index] if windows else None
        attention = _attention(heads, norms, window) if heads else {"kind": OTHER, "heads": []}
        layers.append(
            Layer(
                index=index,
                influence=influence,
                influence_se=influence_se,
                exit_loss=exits.get(index),
                without_loss=alone.loss if alone else None,
                without_rise_se=alone.rise_se if alone else None,
                **attention,
            )
        )
    return layers


def _attention(measures: dict[str, Tensor], norms: Norms | None, window: int | None) -> dict[str, object]:
    """The fields of a layer that attends."""
    heads = _heads(measures, norms)
    widest = max(heads, key=lambda head: head.rank)
    mass, mass_se = mean_and_error(measures["mass"].mean(1))
    whole_N = (measures["rank"] == 1).all(1)
    low, high = wilson(int(whole_N.sum()), len(whole_N))
    return {
        "kind": ATTENTION if window is None else SLIDING,
        "window": window,
        "heads": heads,
        "max_rank": widest.rank,
        "max_rank_se": widest.rank_se,
        "mass": mass,
        "mass_se": mass_se,
        "lazy": widest.rank == 1,
        "lazy_sequences": whole_N.double().mean().item(),
        "lazy_sequences_low": low,
        "lazy_sequences_high": high,
        "lazy_share": _share([head.rank <= LAZY_RANK for head in heads]),
        "lazy_share_low": _share([head.lazy_probability >= SURE for head in heads]),
        "lazy_share_high": _share([head.lazy_probability > 1 - SURE for head in heads]),
    }


def _heads(measures: dict[str, Tensor], norms: Norms | None) -> list[Head]:
    fields: dict[str, list[float]] = {name: values.mean(0).tolist() for name, values in measures.items()}
    fields |= {f"{name}_se": standard_error(values).tolist() for name, values in measures.items()}
    count = len(fields["rank"])
    if norms is not None:
        for name, by_head in zip(("query_gradient", "key_gradient"), norms, strict=True):
            fields[name] = [by_head[i * len(by_head) // count] for i in range(count)]
    rows = [{name: values[i] for name, values in fields.items()} for i in range(count)]
    number = len(measures["rank"])
    return [
        Head(**row, lazy_probability=probability_below(row["rank"], row["rank_se"], LAZY_RANK, number)) for row in rows
    ]


def contrast(name: str, length: int, measured: Measures) -> Contrast:
    """The layers' attention measures of other weights or another length."""
    layers = summarise(measured)
    return Contrast(
        name=name,
        length=length,
        sequences=len(measured.influence_NL),
        max_rank=[layer.max_rank for layer in layers],
        mass=[layer.mass for layer in layers],
        lazy_share=[layer.lazy_share for layer in layers],
    )


def lazy_heads(layers: list[Layer]) -> dict[int, list[int]]:
    """The heads whose mean k* is at most `LAZY_RANK`, by layer; layers without one are left out."""
    found = {layer.index: [i for i, head in enumerate(layer.heads) if head.rank <= LAZY_RANK] for layer in layers}
    return {layer: heads for layer, heads in found.items() if heads}


def _share(flags: list[bool]) -> float:
    return torch.tensor(flags, dtype=torch.float64).mean().item()
