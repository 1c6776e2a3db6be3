"""Tokens of phases, by hand."""

from inheritune.comparison.budget import phase_tokens


def test_shares_of_tokens_are_whole_batches() -> None:
    assert phase_tokens([1.0], [7.0], 0, 1000, 100, None) == [1000]
    assert phase_tokens([0.8, 0.2], [1.0, 1.0], 0, 1000, 100, None) == [800, 200]
    assert phase_tokens([0.5, 0.5], [1.0, 1.0], 0, 300, 100, None) == [200, 200]


def test_flops_are_shared_by_what_a_token_costs() -> None:
    # Half of the tokens at half of the cost: 1,000 tokens at 10 FLOPs pay for 667 + 667.
    assert phase_tokens([0.5, 0.5], [5.0, 10.0], 0, 1000, 1, 10_000) == [667, 667]
    assert phase_tokens([1.0], [10.0], 4_000, 1000, 1, 10_000) == [600]
    assert phase_tokens([2.0], [10.0], 0, 1000, 1, 10_000) == [1000]


def test_what_is_spent_before_leaves_one_batch_at_least() -> None:
    assert phase_tokens([1.0], [10.0], 20_000, 1000, 100, 10_000) == [100]
