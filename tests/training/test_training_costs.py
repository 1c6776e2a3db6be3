"""The one count of training FLOPs, against what torch counts, and alike for whoever asks."""

import pytest
import torch
from rounds import LENGTH, training
from tiny import VOCABULARY, untrained_model
from torch.utils.checkpoint import set_checkpoint_early_stop
from torch.utils.flop_counter import FlopCounterMode

from inheritune.config.sections import Objective as Wanted
from inheritune.surgery.in_memory import inherit
from inheritune.training.costs import optimizer_flops, step_flops, token_flops
from inheritune.training.objective import TrainingLoss
from inheritune.training.optimizer import Optimizer

BATCH_BT = torch.randint(VOCABULARY, (8, LENGTH + 1), generator=torch.Generator().manual_seed(3))
TOKENS = BATCH_BT[:, 1:].numel()


@pytest.mark.parametrize("taught", [False, True])
def test_flops_are_what_torch_counts(taught: bool) -> None:
    """The head works on the logits three times; the teacher is run forward only."""
    model, teacher = untrained_model("gpt2", n_layer=2), untrained_model("gpt2", seed=5) if taught else None
    for one in (model, teacher):
        if one is not None:
            one.set_attn_implementation("eager")
    objective = TrainingLoss(model, training(), Wanted(logits=float(taught)), teacher)
    with FlopCounterMode(display=False) as counter:
        objective.backward(BATCH_BT, TOKENS)
    assert TOKENS * token_flops(model, training(), LENGTH, teacher) == pytest.approx(
        counter.get_total_flops(), rel=0.01
    )


def test_flops_of_blocks_computed_again_are_what_torch_counts() -> None:
    """Torch leaves out a block's last products where nothing after them is kept; made to do all, it counts the same."""
    model, wanted = untrained_model("gpt2").train(), training(checkpoint_activations=True)
    model.set_attn_implementation("eager")
    objective = TrainingLoss(model, wanted)
    with set_checkpoint_early_stop(False), FlopCounterMode(display=False) as counter:
        objective.backward(BATCH_BT, TOKENS)
    assert TOKENS * token_flops(model, wanted, LENGTH) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_muons_products_are_what_torch_counts() -> None:
    model, wanted = untrained_model("gpt2"), training(optimizer="muon")
    optimizer = Optimizer(model, wanted)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    with FlopCounterMode(display=False) as counter:
        optimizer.step(1e-3)
    assert optimizer_flops(model, wanted) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert optimizer_flops(model, training(optimizer="adamw")) == 0


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("again", [False, True])
def test_a_cut_is_planned_at_exactly_what_its_training_counts(family: str, optimizer: str, again: bool) -> None:
    reference, wanted = untrained_model(family), training(optimizer=optimizer, checkpoint_activations=again)
    for blocks in ([0], [0, 2, 3], [0, 1, 2, 3]):
        target = inherit(reference, blocks)
        planned = step_flops(reference, wanted, LENGTH, reference, blocks)
        assert planned == step_flops(target, wanted, LENGTH, reference)
