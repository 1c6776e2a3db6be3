"""Approximate rank k*, exact and fast.

k* is the least k whose largest squared singular values hold a share of their sum (paper, section 2). With G = A^T A of
a map A and S_k the sum of G's k largest eigenvalues, three ways lead to it, the cheapest first:

1. One column that holds the share proves k* = 1: no rank-1 approximation is worse than the best single column.
2. A few leading directions of G, where they come with a proof (`krylov`). It is tried where m* is small, and given up early.
3. All eigenvalues of G, whose product makes use of A being lower triangular.

Each is done in float32; where k depends on less than its error, in float64.

Shapes: B sequences, H heads, T tokens, N maps.
"""

import torch
from torch import Tensor

from inheritune.diagnosis.columns import column_energies, dominant_mass
from inheritune.diagnosis.krylov import leading_rank
from inheritune.runtime.device import CPU

# Float32's errors as shares of the whole. Sums of Ritz values over the exact trace were wrong by up to 4e-6 at T = 512 and
# 1024. With eigenvalues, both sums err alike, so shares are more exact: their error was up to 1e-6 of the largest one's share,
# and 1e-7 beside it.
DIRECTIONS_ERROR = 1e-5
LARGEST_ERROR, LEAST_ERROR = 5e-6, 5e-7
# Up to this length one batched call beats a loop over maps; on a GPU, which waits after each step of such a loop, at any length.
BATCHED_LENGTH = 192
# Leading directions are tried where m* is up to this share of T, and up to this share of T of them.
NARROW, MOST_DIRECTIONS = 0.27, 0.32
_TILE, _AT_ONCE = 128, 64


def approximate_rank(maps_BHTT: Tensor, threshold: float, energies_BHT: Tensor | None = None) -> Tensor:
    """k* of every map, (B, H): what a float64 singular value decomposition gives.

    `energies_BHT` are the maps' `column_energies`, if they are at hand.
    """
    energies_BHT = column_energies(maps_BHTT) if energies_BHT is None else energies_BHT
    ranks_BH, length = dominant_mass(energies_BHT, threshold), maps_BHTT.shape[-1]
    open_N2 = (ranks_BH > 1).nonzero()
    if length <= BATCHED_LENGTH or maps_BHTT.device != CPU:
        for places in open_N2.split(_AT_ONCE):
            maps_NTT = maps_BHTT[tuple(places.T)]
            ranks_BH[tuple(places.T)] = _from_all(maps_NTT, maps_NTT.float().mT @ maps_NTT.float(), threshold)
        return ranks_BH
    for row, head in open_N2.tolist():
        ranks_BH[row, head] = _rank(maps_BHTT[row, head], int(ranks_BH[row, head]), threshold)
    return ranks_BH


def _rank(map_TT: Tensor, mass: int, threshold: float) -> int:
    gram_TT, length = _gram(map_TT.float()), len(map_TT)
    if mass <= NARROW * length:
        rank = leading_rank(gram_TT, threshold, DIRECTIONS_ERROR, int(MOST_DIRECTIONS * length))
        if rank is not None:
            return rank
    return int(_from_all(map_TT[None], gram_TT[None], threshold))


def _from_all(maps_NTT: Tensor, grams_NTT: Tensor, threshold: float) -> Tensor:
    ranks_N, sure_N = _settle(_shares(grams_NTT), threshold)
    for place in (~sure_N).nonzero().flatten().tolist():
        exact_1TT = _gram(maps_NTT[place].double())[None]
        ranks_N[place] = _settle(_shares(exact_1TT), threshold)[0]
    return ranks_N


def _gram(map_TT: Tensor) -> Tensor:
    """A^T A by tiles: where the rows above a tile's own columns are zero, as in a causal map, they are left out."""
    length = len(map_TT)
    starts = range(0, length, _TILE)
    if any(map_TT[:start, start : start + _TILE].any() for start in starts[1:]):
        return map_TT.mT @ map_TT
    gram_TT = torch.empty_like(map_TT, memory_format=torch.contiguous_format)
    for start in starts:
        end, below_RT = start + _TILE, map_TT[start:]
        torch.mm(below_RT[:, start:end].mT, below_RT[:, :end], out=gram_TT[start:end, :end])
        gram_TT[:start, start:end] = gram_TT[start:end, :start].mT
    return gram_TT


def _shares(gram_NTT: Tensor) -> Tensor:
    """S_k over the whole for k = 1 ... T, (N, T) in float64."""
    sums_NT = torch.linalg.eigvalsh(gram_NTT).double().flip(-1).cumsum(-1)
    return sums_NT / sums_NT[..., -1:]


def _settle(shares_NT: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The k at which the shares reach the threshold, and whether float32's error leaves it certain."""
    error_N1 = LARGEST_ERROR * shares_NT[..., :1] + LEAST_ERROR
    low, middle, high = ((shares_NT < threshold + sign * error_N1).sum(-1) for sign in (-1, 0, 1))
    return middle + 1, low == high
