"""Layers and heads from ranks that are written down by hand."""

import pytest
import torch

from inheritune.diagnosis.layers import lazy_heads, summarise
from inheritune.diagnosis.measuring import Measures
from inheritune.diagnosis.suggestion import suggest
from inheritune.records.profile import Layer, ProfileRecord, Suggestion
from inheritune.report.profile_table import lazy

# By layer and head, k* on four sequences.
RANKS = [
    [[1, 1, 1, 1], [1, 1, 1, 2]],  # all but one map have rank 1: not lazy, but both heads have a mean of at most 1.5
    [[1, 1, 1, 1], [1, 2, 1, 2]],  # a mean of exactly 1.5 is lazy in the useful sense
    [[1, 1, 1, 1], [1, 1, 1, 1]],
    [[1, 1, 1, 1], [4, 4, 4, 4]],
    [[2, 2, 2, 2], [4, 4, 4, 4]],
]
OTHERS = ("mass", "first_key", "heaviest_key", "previous", "entropy")


def measured(ranks: list[list[list[int]]]) -> Measures:
    """Measures with these ranks and nothing else that matters."""
    count = len(ranks[0][0]) if ranks else 4
    heads = [
        {"rank": torch.tensor(layer).T.double(), **{name: torch.ones(count, len(layer)).double() for name in OTHERS}}
        for layer in ranks
    ]
    depth = len(ranks)
    return Measures(heads, torch.zeros(count, depth), torch.zeros(depth + 1, depth + 1), torch.ones(count))


@pytest.fixture
def layers() -> list[Layer]:
    return summarise(measured(RANKS))


def test_only_rank_1_in_every_head_of_every_sequence_is_lazy_in_the_strict_sense(layers: list[Layer]) -> None:
    assert [layer.lazy for layer in layers] == [False, False, True, False, False]
    assert [layer.max_rank for layer in layers] == [1.25, 1.5, 1.0, 4.0, 4.0]


def test_lazy_sequences_have_rank_1_in_all_heads_at_once(layers: list[Layer]) -> None:
    assert [layer.lazy_sequences for layer in layers] == [0.75, 0.5, 1.0, 0.0, 0.0]


def test_the_lazy_share_counts_heads_of_a_mean_rank_up_to_one_and_a_half(layers: list[Layer]) -> None:
    assert [layer.lazy_share for layer in layers] == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_lazy_heads_are_named_by_layer(layers: list[Layer]) -> None:
    assert lazy_heads(layers) == {0: [0, 1], 1: [0, 1], 2: [0, 1], 3: [0]}
    assert lazy_heads(summarise(measured([[[2, 2, 2, 1], [3, 3, 3, 3]]]))) == {}


def test_two_parts_of_the_sequences_are_measured_as_one() -> None:
    first, rest = ([[row[start:end] for row in layer] for layer in RANKS] for start, end in ((0, 1), (1, 4)))
    both = Measures.joined([measured(first), measured(rest)])
    assert summarise(both) == summarise(measured(RANKS))
    one, three = measured(first), measured(rest)
    one.angles_SS, three.angles_SS = torch.full((6, 6), 4.0), torch.full((6, 6), 24.0)
    assert torch.equal(Measures.joined([one, three]).angles_SS, torch.full((6, 6), 28.0))


def test_the_lazy_ones_are_told_with_how_sure_it_is() -> None:
    """Six sequences. By hand: t is 3 where all agree (sure at 5 degrees of freedom), 2 where one does not, 0 and -0.8 in layer 2."""
    ranks = [
        [[1] * 6, [1] * 6],
        [[1] * 6, [1, 1, 1, 1, 1, 2]],
        [[1, 2, 1, 2, 1, 2], [2, 2, 1, 2, 1, 2]],
        [[9] * 6, [9] * 6],
    ]
    layers = summarise(measured(ranks))
    shown = lazy(profile_of(layers, 6))
    assert "layer 0, on 6 of 6 sequences (95% interval of the share: 61% to 100%). Lazy heads" in shown
    assert "Lazy heads (mean k* up to 1.5), 5 of 8 (3 surely, 2 open; 1 other may be): layer 0: heads 0" in shown
    nearest = lazy(profile_of([layer.model_copy(update={"lazy": False}) for layer in layers[1:]], 6))
    assert "no layer; the nearest is layer 1, on 5 of 6 sequences (95% interval of the share: 44% to 97%)." in nearest
    assert lazy(profile_of(layers[3:], 6)).endswith("): no layer. Lazy heads (mean k* up to 1.5), 0 of 2.")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([0, 2, 3, 4], "all heads in layers 0,2 and at least half of the heads in layer 3 are lazy (mean k* up to 1.5); layer 2 is"),
        ([1], "all heads in layer 1 are lazy (mean k* up to 1.5); no layer is"),
        ([3], "at least half of the heads in layer 3 are lazy (mean k* up to 1.5); no layer is"),
        ([4], "fewer than half of the heads in each layer are lazy (mean k* up to 1.5); no layer is"),
    ],
)  # fmt: skip
def test_a_suggestion_says_once_which_layers_are_lazy_and_how_far(layers: list[int], said: str) -> None:
    found = summarise(measured(RANKS))
    reason = suggest([found[index] for index in layers], None, 3, 6).reason
    assert reason == f"no cut was run; {said} lazy in the strict sense."


def profile_of(layers: list[Layer], sequences: int) -> ProfileRecord:
    nothing = Suggestion(depth=None, blocks=None, reason="", rests_on="")
    return ProfileRecord(
        model="m", depth=len(layers), sequences=sequences, tokens=0, shortest=9, longest=9, trained_length=None, threshold=0.9,
        loss=1, loss_se=0, layers=layers, lazy_heads=lazy_heads(layers), angular=[], curves=None, contrasts=[],
        suggestion=nothing, caveats=[], seconds=0,
    )  # fmt: skip
