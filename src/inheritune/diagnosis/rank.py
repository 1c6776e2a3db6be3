"""Approximate rank k*, exact and fast.

k* is the least k whose largest squared singular values hold a share of their sum (paper, section 2). With G = A^T A of
a map A and S_k the sum of G's k largest eigenvalues, three ways lead to it, the cheapest first:

1. One column that holds the share proves k* = 1: no rank-1 approximation is worse than the best single column.
2. Columns C that leave out energy d bracket it: S_k(C) <= S_k <= S_k(C) + d. Both ends giving one k settle it.
3. All eigenvalues of G, whose product makes use of A being lower triangular.

Each is done in float32; where k depends on less than `MARGIN` of the sum, in float64.

Shapes: B sequences, H heads, T tokens, C columns.
"""

import torch
from torch import Tensor

from inheritune.diagnosis.columns import column_energies, dominant_mass

# Float32 sums of eigenvalues were wrong by up to 3e-6 of the whole on a real model's maps at T = 512 and 1024.
MARGIN = 2e-5
# Up to this length one batched call beats a loop over maps.
BATCHED_LENGTH = 192
# Columns are left out down to this share of the m*-th column's energy, and only if this share of them or fewer is left.
LEFT_OUT, MOST_COLUMNS = 0.25, 0.5
_TILE = 64


def approximate_rank(maps_BHTT: Tensor, threshold: float, energies_BHT: Tensor | None = None) -> Tensor:
    """k* of every map, (B, H): what a float64 singular value decomposition gives.

    `energies_BHT` are the maps' `column_energies`, if they are at hand.
    """
    energies_BHT = column_energies(maps_BHTT) if energies_BHT is None else energies_BHT
    ranks_BH = dominant_mass(energies_BHT, threshold)
    for place in (ranks_BH > 1).nonzero().split(_at_once(maps_BHTT)):
        chosen = tuple(place.T)
        ranks_BH[chosen] = _ranks(maps_BHTT[chosen], energies_BHT[chosen], threshold)
    return ranks_BH


def _at_once(maps_BHTT: Tensor) -> int:
    return 64 if maps_BHTT.shape[-1] <= BATCHED_LENGTH else 1


def _ranks(maps_NTT: Tensor, energies_NT: Tensor, threshold: float) -> Tensor:
    if len(maps_NTT) == 1 and (rank := _bracketed(maps_NTT[0], energies_NT[0], threshold)) is not None:
        return torch.tensor([rank], device=maps_NTT.device)
    wanted_N = threshold * energies_NT.sum(-1)
    sums_NT = _top_sums(_gram(maps_NTT.float()))
    ranks_N, sure_N = _settle(sums_NT, sums_NT, wanted_N, MARGIN * energies_NT.sum(-1))
    for place in (~sure_N).nonzero().flatten().tolist():
        sums_T = _top_sums(_gram(maps_NTT[place].double()))
        ranks_N[place] = _settle(sums_T, sums_T, threshold * sums_T[-1], 0 * sums_T[-1])[0]
    return ranks_N


def _bracketed(map_TT: Tensor, energies_T: Tensor, threshold: float) -> int | None:
    """k* from the strongest columns alone; None where too many are needed or the bracket leaves it open."""
    sorted_T, order_T = energies_T.sort(descending=True)
    held_T = sorted_T.cumsum(0)
    wanted = threshold * held_T[-1]
    least = LEFT_OUT * sorted_T[(held_T < wanted).sum()]
    count = int((held_T[-1] - held_T > least).sum()) + 1
    if count > MOST_COLUMNS * len(energies_T):
        return None
    kept_TC = map_TT.float().index_select(1, order_T[:count])
    sums_C = _top_sums(kept_TC.mT @ kept_TC)
    rank, sure = _settle(sums_C, sums_C + (held_T[-1] - held_T[count - 1]), wanted, MARGIN * held_T[-1])
    return int(rank) if sure else None


def _gram(maps_NTT: Tensor) -> Tensor:
    """The lower triangle of A^T A, by tiles: in a causal map the rows above a tile's own columns are zero."""
    length = maps_NTT.shape[-1]
    if maps_NTT.triu(1).any():
        return maps_NTT.mT @ maps_NTT
    gram_NTT = torch.zeros_like(maps_NTT)
    for start in range(0, length, _TILE):
        end, below = start + _TILE, maps_NTT[..., start:, :]
        gram_NTT[..., start:end, :end] = below[..., start:end].mT @ below[..., :end]
    return gram_NTT


def _top_sums(gram_NTT: Tensor) -> Tensor:
    """S_k for k = 1 ... T, (N, T) in float64, from the lower triangle of G."""
    return torch.linalg.eigvalsh(gram_NTT, UPLO="L").double().flip(-1).cumsum(-1)


def _settle(low_NT: Tensor, high_NT: Tensor, wanted_N: Tensor, margin_N: Tensor) -> tuple[Tensor, Tensor]:
    """The k at which sums between `low` and `high` reach `wanted`, and whether it holds for an error of `margin`."""
    most = (low_NT < (wanted_N + margin_N)[..., None]).sum(-1) + 1
    least = (high_NT < (wanted_N - margin_N)[..., None]).sum(-1) + 1
    rank = (low_NT < wanted_N[..., None]).sum(-1) + 1
    return rank, most == least
