"""The probe of a plan: what it times, and which of the times counts."""

from collections.abc import Callable

import pytest
from rounds import LENGTH, training
from tiny import untrained_model
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from inheritune.training import pace
from inheritune.training.costs import token_flops


@pytest.mark.parametrize("again", [False, True])
def test_what_is_tried_is_a_step_as_the_recipe_has_it(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """By the products that torch counts: blocks computed again are tried so, and all as in training, with dropout."""
    model, wanted = untrained_model("gpt2").eval(), training(checkpoint_activations=again, precision="fp32")
    model.set_attn_implementation("eager")
    made: list[tuple[int, bool]] = []

    def counted(work: Callable[[], object], seconds: float) -> float:
        with set_checkpoint_early_stop(False), FlopCounterMode(display=False) as counter:
            work()
        made.append((counter.get_total_flops(), model.training))
        return 1.0

    monkeypatch.setattr(pace, "fresh", lambda config, depth, seed: model)
    monkeypatch.setattr(pace, "_middle", counted)
    pace.tried(model.config, wanted, LENGTH, matrix_rate=1e15)
    products, training_mode = made[0]
    tokens = wanted.micro_batch_size * LENGTH
    assert training_mode and products == pytest.approx(tokens * token_flops(model, wanted, LENGTH), rel=0.01)


def test_the_middle_time_counts_and_not_the_luckiest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tries after the one that warms up, of 1, 9, 3, 5 and 2 seconds by this clock."""
    ends = iter([0.0, 0, 1, 1, 1, 10, 10, 10, 13, 13, 13, 18, 18, 18, 20, 20])
    monkeypatch.setattr(pace.time, "perf_counter", lambda: float(next(ends)))
    assert pace._middle(lambda: None, seconds=19.0) == 3.0
