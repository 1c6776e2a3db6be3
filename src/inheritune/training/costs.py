"""The FLOPs of training: one count for the loop, the plan, a comparison's budgets and the ledger.

Only matrix products count. The FLOPs are whole numbers, so that their sum is the same in whatever order they are added.
"""

from collections.abc import Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.costs import block_flops_per_token, forward_flops_per_token
from inheritune.training.muon import STEPS, matrices_in


def step_flops(
    model: PreTrainedModel,
    training: Training,
    length: int,
    teacher: PreTrainedModel | None = None,
    blocks: Sequence[int] | None = None,
) -> int:
    """FLOPs of one optimizer step on sequences of `length`: the model's, the teacher's forward pass, and the optimizer's own.

    With `blocks`, those of `model` cut to these blocks.
    """
    per_token = token_flops(model, training, length, teacher, blocks)
    return training.batch_tokens * per_token + optimizer_flops(model, training, blocks)


def token_flops(
    model: PreTrainedModel,
    training: Training,
    length: int,
    teacher: PreTrainedModel | None = None,
    blocks: Sequence[int] | None = None,
) -> int:
    """FLOPs of training on one token, without the optimizer's: three times a forward pass, plus the teacher's forward pass.

    Under `checkpoint_activations` the blocks' forward pass counts once more, though torch recomputes only up to the last saved tensor.
    """
    inside = sum(block_flops_per_token(block, model.config, length) for block in _chosen(model, blocks))
    head = 2 * anatomy(model).head.get_parameter("weight").numel()
    taught = 0 if teacher is None else forward_flops_per_token(teacher, length)
    return 3 * (inside + head) + taught + (inside if training.checkpoint_activations else 0)


def optimizer_flops(model: PreTrainedModel, training: Training, blocks: Sequence[int] | None = None) -> int:
    """FLOPs of the optimizer's own matrix products in a step: Muon's on the blocks' matrices; AdamW has none."""
    if training.optimizer != "muon":
        return 0
    return sum(_newton_schulz_flops(*matrix) for block in _chosen(model, blocks) for matrix in _matrices(block))


def _chosen(model: PreTrainedModel, blocks: Sequence[int] | None) -> list[nn.Module]:
    whole = list(anatomy(model).blocks)
    return whole if blocks is None else [whole[block] for block in blocks]


def _matrices(block: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Rows, columns and number of pieces of each trained matrix of a block."""
    for name, parameter in block.named_parameters():
        if parameter.requires_grad and parameter.ndim == 2:
            yield (*parameter.shape, matrices_in(block, name))


def _newton_schulz_flops(rows: int, columns: int, pieces: int) -> int:
    """FLOPs of Newton-Schulz on the pieces of one matrix: in each step X Xᵀ, its square, and the sum of both times X."""
    small, large = sorted((rows, columns // pieces))
    return pieces * STEPS * (4 * small * small * large + 2 * small**3)
