"""k* and m* of every head on every sequence, checked against the plain computation: eager maps, float64, full SVD, sort.

    python benchmarks/agreement.py --sequences 8 --length 100 [--dtype bfloat16] [--families gpt2 llama]
    python benchmarks/agreement.py --model FOLDER --text BOOK --sequences 2 --length 512

Families are the tiny models of the tests, with as many positions as the length needs. `close` counts values that are not
compared, because the plain computation puts them within 1e-6 of the threshold.
"""

import argparse
import copy
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

sys.path[:0] = [str(Path(__file__).parents[1] / "tests" / name) for name in ("", "diagnosis")]

import families  # noqa: E402
from test_probe import SEEN, Keeper  # noqa: E402
from test_rank_and_columns import reference  # noqa: E402

from inheritune.diagnosis.columns import column_energies, dominant_mass  # noqa: E402
from inheritune.diagnosis.probe import probing  # noqa: E402
from inheritune.diagnosis.rank import approximate_rank  # noqa: E402
from inheritune.diagnosis.text import spread_windows  # noqa: E402
from inheritune.models.load import load_model, tokenizer_at  # noqa: E402


def tiny(family: str, length: int, dtype: torch.dtype) -> PreTrainedModel:
    """The tests' model of a family with room for `length` tokens."""
    table = {**families.FAMILIES, **families.OTHERS, **families.REFUSED}
    for fields in (table[family], families.TOKENS):
        for key in ("n_positions", "max_position_embeddings", "max_seq_len"):
            if key in fields:
                fields[key] = max(length, 64)
    return families.reference(family).to(dtype)


@torch.no_grad()
def row(name: str, model: PreTrainedModel, tokens_NT: Tensor, kernel: str | None) -> str:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    if kernel:
        model.set_attn_implementation(kernel)
    counts, same, seen = Counter(), True, 0
    for tokens_BT in tokens_NT.split(1):
        keeper, plain = Keeper(), model(tokens_BT, use_cache=False).logits
        with probing(model, keeper):
            same &= torch.equal(model(tokens_BT, use_cache=False).logits, plain)
        found = eager(tokens_BT, use_cache=False, output_attentions=True).attentions
        seen = len(keeper.maps)
        for layer, maps_BHTT in zip(sorted(keeper.maps), [maps for maps in found if maps is not None], strict=True):
            counts += compared(keeper.maps[layer], maps_BHTT)
    cells = [seen, *(counts[key] for key in ("maps", "rank", "mass", "close")), "yes" if same else "no"]
    return f"| {name} | {' | '.join(map(str, cells))} |"


def compared(mine_BHTT: Tensor, theirs_BHTT: Tensor) -> Counter[str]:
    counts: Counter[str] = Counter()
    ranks = approximate_rank(mine_BHTT, 0.9).flatten().tolist()
    masses = dominant_mass(column_energies(mine_BHTT), 0.9).flatten().tolist()
    for map_TT, rank, mass in zip(theirs_BHTT.flatten(0, 1).double().numpy(), ranks, masses, strict=True):
        by_svd, near_rank = reference(np.linalg.svd(map_TT, compute_uv=False) ** 2)
        by_sort, near_mass = reference((map_TT**2).sum(0))
        counts["maps"] += 1
        counts["close"] += near_rank + near_mass
        counts["rank"] += near_rank or rank == by_svd
        counts["mass"] += near_mass or mass == by_sort
    return counts


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--kernel", help="the probed model's; its default if not given")
    parser.add_argument("--families", nargs="+", default=SEEN)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--text", default="bundled:docstrings")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    print("| family | layers with maps | maps | k* equal | m* equal | close | logits bit-equal |")
    print("|---|---|---|---|---|---|---|")
    if given.model:
        tokens_NT = spread_windows(given.text, tokenizer_at(given.model), given.length, given.sequences)
        print(row(given.model.name, load_model(given.model).to(getattr(torch, given.dtype)), tokens_NT, given.kernel))
        return
    tokens_NT = torch.randint(3, 96, (given.sequences, given.length), generator=torch.Generator().manual_seed(0))
    for family in given.families:
        print(row(family, tiny(family, given.length, getattr(torch, given.dtype)), tokens_NT, given.kernel), flush=True)


if __name__ == "__main__":
    main()
