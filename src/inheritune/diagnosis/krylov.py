"""k* of one map from a few leading directions of G = A^T A, with a proof, or no answer.

Block Lanczos from the strongest columns gives an orthonormal V, Ritz values theta of G on it, and how V is coupled to the
rest: G V = V B + Q R. With C the rest of G, three numbers are known without seeing it: its trace, its Frobenius norm, and
through them a bound on its largest eigenvalue c. Then

- from below, S_k >= theta_1 + ... + theta_k, since Ritz values never exceed eigenvalues;
- from above, S_m <= m sigma + sum pi for any pi >= 0 with sigma + V pi V^T - G positive semidefinite, which by the Schur
  complement holds where c + |E D^-1 E^T| <= sigma, with E the coupling to each Ritz vector and D = sigma + pi - theta > 0.

Both settle k* where the first reaches the threshold at k and the second stays below it at k - 1.

Shapes: T tokens, P directions so far, B directions in a block.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

# A direction with a smaller new part than this is rounding: nothing is left to find.
NEW = 0.01
# Float32's error in a difference of squared Frobenius norms, as a share of the larger.
ROUNDING = 4e-6
# A proof is looked for once the directions leave out less than this share of what the threshold leaves out.
LOOK = 0.65
# How much the basis grows between two looks.
GROWTH = 1.2
# Give up if the share left out is heading for more than this at the last direction: no such map was ever proven.
HOPE = 0.3


@dataclass
class _Basis:
    """V (T, P), B (P, P) and R (B, B) of G V = V B + Q R, a block at a time; Q stands right of V in `vectors`."""

    gram_TT: Tensor
    block: int
    vectors: Tensor
    projected: Tensor
    size: int = 0
    coupling_BB: Tensor = field(default_factory=lambda: torch.empty(0))

    def extend(self) -> bool:
        """Take Q into the basis and compute the next Q; False if there is none."""
        start, end = self.size, self.size + self.block
        basis_TP = self.vectors[:, :end]
        new_TB = self.gram_TT @ self.vectors[:, start:end]
        inside_PB = basis_TP.mT @ new_TB
        next_TB, first_BB = torch.linalg.qr(new_TB - basis_TP @ inside_PB)
        next_TB, second_BB = torch.linalg.qr(next_TB - basis_TP @ (basis_TP.mT @ next_TB))
        self.coupling_BB = second_BB @ first_BB
        self.vectors[:, end : end + self.block] = next_TB
        self.projected[:end, start:end] = inside_PB
        self.projected[start:end, :end] = inside_PB.mT
        self.size = end
        return bool(second_BB.diagonal().abs().min() > NEW)


def leading_rank(gram_TT: Tensor, threshold: float, margin: float, most: int) -> int | None:
    """k* from the whole symmetric G, if up to `most` directions prove it with an error of `margin` of the trace; else None.

    It gives up after two blocks or more if what they leave out shrinks too slowly for a proof.
    """
    facts = _Facts(gram_TT, threshold, margin)
    block = 16 if len(gram_TT) <= 768 else 32
    basis, before, look, more = _start(gram_TT, block, most), float("inf"), 0, True
    while more and basis.size + block <= most:
        more = basis.extend()
        left, rest = facts.left_out(basis), (most - basis.size) // block
        if not more or (left < LOOK and (basis.size >= look or rest == 0)):
            look = int(GROWTH * basis.size)
            rank = facts.rank(basis)
            if rank is not None:
                return rank
        if before < float("inf") and left * (left / before) ** rest > HOPE:
            return None
        before = left
    return None


def _start(gram_TT: Tensor, block: int, most: int) -> _Basis:
    strongest = gram_TT.diagonal().argsort(descending=True)[:block]
    first_TB = torch.linalg.qr(gram_TT.index_select(1, strongest)).Q
    vectors = gram_TT.new_empty(len(gram_TT), most + block)
    vectors[:, :block] = first_TB
    return _Basis(gram_TT, block, vectors, gram_TT.new_empty(most + block, most + block))


class _Facts:
    """What is known about G beforehand, and what Ritz values then prove."""

    def __init__(self, gram_TT: Tensor, threshold: float, margin: float) -> None:
        self.gram_TT = gram_TT
        self.trace = gram_TT.diagonal().sum(dtype=torch.float64).item()
        self.squares = float(torch.linalg.vector_norm(gram_TT)) ** 2
        self.low, self.high = (threshold - margin) * self.trace, (threshold + margin) * self.trace
        self.spare = max((1 - threshold) * self.trace, ROUNDING * self.trace)

    def left_out(self, basis: _Basis) -> float:
        """The part of the trace that the directions leave out, over the part that the threshold leaves out."""
        return (self.trace - basis.projected.diagonal()[: basis.size].sum().item()) / self.spare

    def rank(self, basis: _Basis) -> int | None:
        """k*, if the directions prove it."""
        inside_PP = basis.projected[: basis.size, : basis.size]
        if not self.within_reach(torch.linalg.eigvalsh(inside_PP).flip(0).double()):
            return None
        ritz_P, turns_PP = torch.linalg.eigh(inside_PP)
        return self.proven(basis, ritz_P.flip(0), turns_PP.flip(1))

    def within_reach(self, ritz_P: Tensor) -> bool:
        """Whether these Ritz values would prove k* if they were eigenvalues."""
        found = self._room(ritz_P, torch.zeros(1, len(ritz_P), dtype=ritz_P.dtype, device=ritz_P.device))
        return found is not None and self._largest(ritz_P, self._rest(ritz_P)) < found[1]

    def proven(self, basis: _Basis, ritz_P: Tensor, turns_PP: Tensor) -> int | None:
        """k*, or None where the rest of G may still hold too large an eigenvalue."""
        edge_BP, exact_P = (basis.coupling_BB @ turns_PP[-basis.block :]).double(), ritz_P.double()
        found = self._room(exact_P, edge_BP)
        rest = self._rest(exact_P) - 2 * edge_BP.square().sum().item()
        if found is None or self._largest(exact_P, rest) >= found[1]:
            return None
        if self._largest(exact_P, rest + ROUNDING * self.squares) < found[1]:
            return found[0]
        turned_TP = basis.vectors[:, : basis.size] @ turns_PP
        seen = torch.addmm(self.gram_TT, turned_TP * ritz_P, turned_TP.mT, alpha=-1)
        return found[0] if self._largest(exact_P, float(torch.linalg.vector_norm(seen)) ** 2) < found[1] else None

    def _room(self, ritz_P: Tensor, edge_BP: Tensor) -> tuple[int, float] | None:
        """The k that the Ritz values reach, and how large an eigenvalue of the rest still leaves S_(k-1) below."""
        held_P = ritz_P.cumsum(0)
        under = int((held_P < self.high).sum())
        if under == len(held_P):
            return None
        if under == 0:
            return 1, float("inf")
        sigma, slack = ritz_P[under - 1], self.low - held_P[under - 1]
        lift_P = (sigma - ritz_P).clamp(min=slack / (2 * under))
        cost = under * sigma + (lift_P + ritz_P - sigma).clamp(min=0).sum()
        if slack <= 0 or cost > self.low:
            return None
        weighed_BP = edge_BP / lift_P.sqrt()
        coupled = torch.linalg.eigvalsh(weighed_BP @ weighed_BP.mT)[-1]
        return under + 1, float(sigma - coupled)

    def _rest(self, ritz_P: Tensor) -> float:
        return self.squares - ritz_P.square().sum().item()

    def _largest(self, ritz_P: Tensor, squares: float) -> float:
        """An upper bound on each eigenvalue of the rest, from their sum and the sum of their squares."""
        count = len(self.gram_TT) - len(ritz_P)
        mean = (self.trace - ritz_P.sum().item()) / count
        return mean + max((count - 1) * (squares / count - mean * mean), 0.0) ** 0.5
