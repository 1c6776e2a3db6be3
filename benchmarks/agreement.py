"""k* and m* of every head of every sequence against the plain way: eager maps, float64, full SVD, sort.

    python benchmarks/agreement.py

Families are the tiny models of the tests. `close` counts values that the reference itself puts within 1e-6 of the
threshold, and which are therefore not compared.
"""

import copy
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.utils import logging

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("blocks", "diagnosis")]

import families  # noqa: E402
from test_probe import SEEN, Keeper  # noqa: E402
from test_rank_and_columns import reference  # noqa: E402

from inheritune.diagnosis.columns import column_energies, dominant_mass  # noqa: E402
from inheritune.diagnosis.probe import probing  # noqa: E402
from inheritune.diagnosis.rank import approximate_rank  # noqa: E402


def row(family: str, tokens_BT: Tensor) -> str:
    model, keeper = families.reference(family), Keeper()
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        plain = model(tokens_BT, use_cache=False).logits
        with probing(model, keeper):
            same = torch.equal(model(tokens_BT, use_cache=False).logits, plain)
        theirs = [
            maps for maps in eager(tokens_BT, use_cache=False, output_attentions=True).attentions if maps is not None
        ]
    count = close = ranks = masses = 0
    for layer, maps_BHTT in zip(sorted(keeper.maps), theirs, strict=True):
        mine = keeper.maps[layer]
        rank = approximate_rank(mine, 0.9).flatten().tolist()
        mass = dominant_mass(column_energies(mine), 0.9).flatten().tolist()
        for i, map_TT in enumerate(maps_BHTT.flatten(0, 1).double().numpy()):
            by_svd, near_rank = reference(np.linalg.svd(map_TT, compute_uv=False) ** 2)
            by_sort, near_mass = reference((map_TT**2).sum(0))
            count, close = count + 1, close + near_rank + near_mass
            ranks += near_rank or rank[i] == by_svd
            masses += near_mass or mass[i] == by_sort
    return f"| {family} | {len(keeper.maps)} of {families.DEPTH} | {count} | {ranks} | {masses} | {close} | {same} |"


def main() -> None:
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    tokens_BT = torch.randint(3, 96, (8, 64), generator=torch.Generator().manual_seed(0))
    print(
        "| family | layers with maps | maps | k* equal | m* equal | close | logits bit-equal |\n|---|---|---|---|---|---|---|"
    )
    for family in SEEN:
        print(row(family, tokens_BT), flush=True)


if __name__ == "__main__":
    main()
