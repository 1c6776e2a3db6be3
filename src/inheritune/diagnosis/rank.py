"""Approximate rank k*, exact and fast.

k* is the least k whose largest squared singular values hold a share of their sum (paper, section 2). With G = A^T A of
a map A and S_k the sum of G's k largest eigenvalues, three ways lead to it, the cheapest first:

1. One column that holds the share proves k* = 1: no rank-1 approximation is worse than the best single column.
2. A few leading directions of G, where they come with a proof (`krylov`). It is tried where m* is small.
3. All eigenvalues of G, whose product makes use of A being lower triangular.

Each is done in float32; where k depends on less than `MARGIN` of the sum, in float64.

Shapes: B sequences, H heads, T tokens, N maps.
"""

import torch
from torch import Tensor

from inheritune.diagnosis.columns import column_energies, dominant_mass
from inheritune.diagnosis.krylov import leading_rank

# Float32 sums of eigenvalues were wrong by up to 3e-6 of the whole on a real model's maps at T = 512 and 1024.
MARGIN = 1e-5
# Up to this length one batched call beats a loop over maps.
BATCHED_LENGTH = 192
# Leading directions are first looked at when they are this many times m*, and only up to this share of T.
FIRST_LOOK, MOST_DIRECTIONS = 1.3, 0.32
_TILE = 128


def approximate_rank(maps_BHTT: Tensor, threshold: float, energies_BHT: Tensor | None = None) -> Tensor:
    """k* of every map, (B, H): what a float64 singular value decomposition gives.

    `energies_BHT` are the maps' `column_energies`, if they are at hand.
    """
    energies_BHT = column_energies(maps_BHTT) if energies_BHT is None else energies_BHT
    ranks_BH = dominant_mass(energies_BHT, threshold)
    for place in (ranks_BH > 1).nonzero().split(_at_once(maps_BHTT)):
        chosen = tuple(place.T)
        ranks_BH[chosen] = _ranks(maps_BHTT[chosen], ranks_BH[chosen], threshold)
    return ranks_BH


def _at_once(maps_BHTT: Tensor) -> int:
    return 64 if maps_BHTT.shape[-1] <= BATCHED_LENGTH else 1


def _ranks(maps_NTT: Tensor, masses_N: Tensor, threshold: float) -> Tensor:
    grams_NTT, length = _gram(maps_NTT.float()), maps_NTT.shape[-1]
    if len(maps_NTT) == 1 and length > BATCHED_LENGTH:
        least, most = int(FIRST_LOOK * masses_N), int(MOST_DIRECTIONS * length)
        rank = leading_rank(grams_NTT[0], threshold, MARGIN, least, most) if least <= most else None
        if rank is not None:
            return torch.tensor([rank], device=maps_NTT.device)
    ranks_N, sure_N = _settle(_top_sums(grams_NTT), threshold, MARGIN)
    for place in (~sure_N).nonzero().flatten().tolist():
        ranks_N[place] = _settle(_top_sums(_gram(maps_NTT[place].double())), threshold, 0)[0]
    return ranks_N


def _gram(maps_NTT: Tensor) -> Tensor:
    """A^T A by tiles: where the rows above a tile's own columns are zero, as in a causal map, they are left out."""
    length = maps_NTT.shape[-1]
    starts = range(0, length, _TILE)
    if length <= _TILE or any(maps_NTT[..., :start, start : start + _TILE].any() for start in starts[1:]):
        return maps_NTT.mT @ maps_NTT
    gram_NTT = torch.empty_like(maps_NTT)
    for start in starts:
        end, below = start + _TILE, maps_NTT[..., start:, :]
        tile = below[..., start:end].mT @ below[..., :end]
        gram_NTT[..., start:end, :end] = tile
        gram_NTT[..., :start, start:end] = tile[..., :start].mT
    return gram_NTT


def _top_sums(gram_NTT: Tensor) -> Tensor:
    """S_k for k = 1 ... T, (N, T) in float64."""
    return torch.linalg.eigvalsh(gram_NTT).double().flip(-1).cumsum(-1)


def _settle(sums_NT: Tensor, threshold: float, margin: float) -> tuple[Tensor, Tensor]:
    """The k at which the sums reach the threshold, and whether it holds for an error of `margin` of the whole."""
    shares_NT = sums_NT / sums_NT[..., -1:]
    below = [(shares_NT < threshold + error).sum(-1) for error in (-margin, 0.0, margin)]
    return below[1] + 1, below[0] == below[2]
