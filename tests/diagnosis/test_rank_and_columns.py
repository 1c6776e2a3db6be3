"""k* and m* against a float64 singular value decomposition and a sort, and against values worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inheritune.diagnosis import columns, krylov
from inheritune.diagnosis.krylov import leading_rank
from inheritune.diagnosis.rank import approximate_rank

THRESHOLD = 0.90
CLOSE = 1e-6


def held(values: np.ndarray) -> np.ndarray:
    shares = np.sort(values)[::-1].cumsum()
    return shares / shares[-1]


def reference(energies: np.ndarray, threshold: float = THRESHOLD) -> tuple[int, bool]:
    """The least count whose largest values hold the threshold, and whether that is nearer to it than rounding."""
    shares = held(energies)
    return int((shares < threshold).sum()) + 1, bool((abs(shares - threshold) < CLOSE).any())


def agree(map_TT: Tensor) -> None:
    exact = map_TT.double().numpy()
    rank, rank_close = reference(np.linalg.svd(exact, compute_uv=False) ** 2)
    mass, mass_close = reference((exact**2).sum(0))
    maps_BHTT = map_TT[None, None]
    assert rank_close or approximate_rank(maps_BHTT, THRESHOLD).item() == rank
    assert mass_close or columns.dominant_mass(columns.column_energies(maps_BHTT), THRESHOLD).item() == mass


def uniform(length: int) -> Tensor:
    return torch.ones(length, length).tril() / torch.arange(1, length + 1)[:, None]


def previous(length: int) -> Tensor:
    shifted = torch.eye(length).roll(1, 0)
    shifted[0] = torch.eye(length)[0]
    return shifted


def sink(length: int) -> Tensor:
    first = torch.zeros(length, length)
    first[:, 0] = 1
    return first


KNOWN = {
    "uniform": (uniform, {100: (5, 30), 1024: (7, 221)}),
    "identity": (torch.eye, {100: (90, 90), 1024: (922, 922)}),
    "previous": (previous, {100: (89, 89)}),
    "sink": (sink, {100: (1, 1), 1024: (1, 1)}),
    "half sink, half previous": (lambda t: 0.5 * sink(t) + 0.5 * previous(t), {100: (78, 79)}),
    "mostly sink, some previous": (lambda t: 0.8 * sink(t) + 0.2 * previous(t), {100: (1, 1), 1024: (1, 1)}),
    "half sink, half uniform": (lambda t: 0.5 * sink(t) + 0.5 * uniform(t), {100: (1, 1)}),
}
CASES = [(name, length) for name, (_, by_length) in KNOWN.items() for length in by_length]


@pytest.mark.parametrize(("name", "length"), CASES)
def test_matrices_whose_rank_and_mass_are_known(name: str, length: int) -> None:
    make, by_length = KNOWN[name]
    maps_BHTT = make(length)[None, None]
    rank = approximate_rank(maps_BHTT, THRESHOLD).item()
    mass = columns.dominant_mass(columns.column_energies(maps_BHTT), THRESHOLD).item()
    assert (rank, mass) == by_length[length]


def random_map(length: int, sharpness: float, sink_logit: float, locality: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(length, length, generator=generator)
    logits[:, 0] += sink_logit
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    logits = logits - locality * distance.clamp(min=0) + torch.where(distance < 0, -torch.inf, 0.0)
    return logits.softmax(-1)


@settings(max_examples=60)
@given(
    length=st.integers(2, 260),
    sharpness=st.floats(0, 6),
    sink_logit=st.floats(-2, 9),
    locality=st.floats(0, 2),
    seed=st.integers(0, 99),
)
def test_any_causal_map_agrees_with_the_reference(
    length: int, sharpness: float, sink_logit: float, locality: float, seed: int
) -> None:
    agree(random_map(length, sharpness, sink_logit, locality, seed))


@pytest.mark.parametrize(("sharpness", "sink_logit", "locality"), [(1, 3, 0), (3, 0, 0), (0.5, 5, 0.02), (1, 0, 1)])
def test_long_maps_agree_with_the_reference(sharpness: float, sink_logit: float, locality: float) -> None:
    agree(random_map(512, sharpness, sink_logit, locality, 0))


def test_a_share_next_to_the_threshold_is_decided_in_float64() -> None:
    diagonal = torch.ones(300)
    diagonal[:270] += 3e-7
    exact = (diagonal.double() ** 2).numpy()
    assert approximate_rank(torch.diag(diagonal)[None, None], THRESHOLD).item() == reference(exact)[0] == 270


def test_a_map_that_is_not_causal_is_not_taken_for_one() -> None:
    map_TT = torch.rand(220, 220, generator=torch.Generator().manual_seed(0))
    agree((map_TT * 20).softmax(-1))


def test_many_maps_at_once_are_each_what_they_are_alone() -> None:
    maps_BHTT = torch.stack([random_map(64, 1 + i, i, 0.1 * i, i) for i in range(6)]).view(2, 3, 64, 64)
    together = approximate_rank(maps_BHTT, THRESHOLD)
    alone = [approximate_rank(map_TT[None, None], THRESHOLD).item() for map_TT in maps_BHTT.flatten(0, 1)]
    assert together.flatten().tolist() == alone


def test_shares_and_entropy_of_maps_worked_out_by_hand() -> None:
    maps_BHTT = torch.stack([sink(10), previous(10), uniform(10)])[None]
    first, heaviest = columns.sink_shares(maps_BHTT)
    harmonic = sum(1 / i for i in range(2, 11)) / 9
    assert first[0].tolist() == pytest.approx([1, 1 / 9, harmonic])
    assert heaviest[0].tolist() == pytest.approx([1, 1 / 9, harmonic])
    assert columns.previous_token_share(maps_BHTT)[0].tolist() == pytest.approx([1 / 9, 1, harmonic])
    entropies = [0, 0, sum(np.log(i) for i in range(2, 11)) / 9]
    assert columns.entropy(maps_BHTT)[0].tolist() == pytest.approx(entropies, abs=1e-6)


def hidden(length: int) -> Tensor:
    """The strongest columns stand apart; the largest eigenvalue belongs to weaker ones that they never meet."""
    map_TT = torch.zeros(length, length)
    map_TT[:40, :40] = torch.eye(40)
    map_TT[-1, 100:200] = 0.5**0.5
    return map_TT


@pytest.mark.parametrize("most", [32, 100, 300])
def test_a_direction_that_the_start_cannot_see_is_not_missed(most: int) -> None:
    map_TT = hidden(400)
    expected, _ = reference(np.linalg.svd(map_TT.double().numpy(), compute_uv=False) ** 2)
    assert leading_rank(map_TT.mT @ map_TT, THRESHOLD, 1e-5, most) in (None, expected)
    agree(map_TT)


@pytest.mark.parametrize(("sharpness", "sink_logit"), [(1, 9), (0, 12), (2, 7), (3, 8)])
def test_a_few_directions_prove_the_rank_of_a_map_with_a_sink(sharpness: float, sink_logit: float) -> None:
    map_TT = random_map(512, sharpness, sink_logit, 0, 0)
    expected, _ = reference(np.linalg.svd(map_TT.double().numpy(), compute_uv=False) ** 2)
    proven = [leading_rank(map_TT.mT @ map_TT, THRESHOLD, 1e-5, most) for most in (16, 96, 400)]
    assert set(proven) <= {None, expected} and proven[-1] == expected


def test_a_margin_wider_than_the_gap_leaves_it_open() -> None:
    map_TT = random_map(512, 2, 7, 0, 0)
    shares = held(np.linalg.svd(map_TT.double().numpy(), compute_uv=False) ** 2)
    gap = abs(shares - THRESHOLD).min()
    assert leading_rank(map_TT.mT @ map_TT, THRESHOLD, 2 * gap, 400) is None


def test_directions_of_a_wide_map_are_given_up_after_two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, extend = [], krylov._Basis.extend
    monkeypatch.setattr(krylov._Basis, "extend", lambda basis: (extend(basis), sizes.append(basis.size))[0])
    map_TT = random_map(512, 4, 10, 0, 0)
    assert leading_rank(map_TT.mT @ map_TT, THRESHOLD, 1e-5, 163) is None
    assert sizes == [16, 32]
    agree(map_TT)
