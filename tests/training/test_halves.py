import copy
from typing import Any

import families
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.pytorch_utils import Conv1D

from inheritune.config.sections import Objective, Training
from inheritune.runtime.device import CPU, autocast
from inheritune.training.halves import halved_bytes, in_halves
from inheritune.training.objective import TrainingLoss


class _Copied(TorchDispatchMode):
    """Counts the numbers that are copied in fp32."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.numbers += found.numel() * (func is torch.ops.aten.clone.default and found.dtype == torch.float32)
        return found


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma2", "mixtral", "falcon", "olmo2"])
def test_a_teacher_in_halves_gives_the_same_bits_and_takes_less(family: str) -> None:
    """qwen3 and gemma2 tie the head to the embeddings, which stay whole."""
    model = families.reference(family).eval()
    tokens_BT = torch.randint(3, 90, (2, 20), generator=torch.Generator().manual_seed(0))
    with _Copied() as copied:
        made = in_halves(model)
    left = sum(x.numel() for x in (*made.parameters(), *made.buffers()) if x.dtype == torch.float32)
    assert 0 < copied.numbers <= left, "no matrix is copied whole before it is halved"
    with torch.no_grad(), autocast("bf16", CPU):
        assert torch.equal(made(tokens_BT).logits, model(tokens_BT).logits)
    narrow = [m for m in made.modules() if isinstance(m, nn.Linear | Conv1D) and m.weight.dtype == torch.bfloat16]
    assert len(narrow) >= 4 * made.config.num_hidden_layers
    assert all(p.dtype == torch.float32 for p in model.parameters()), "the model itself is as it was"
    assert sum(p.nbytes for p in made.parameters()) == halved_bytes(model)
    assert made.get_input_embeddings().weight.dtype == torch.float32  # type: ignore[union-attr]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_it_teaches_is_the_same_to_the_bit(family: str) -> None:
    teacher, batch_BT = (
        families.reference(family),
        torch.randint(3, 90, (2, 20), generator=torch.Generator().manual_seed(0)),
    )
    training = Training(tokens=1, batch_tokens=1, micro_batch_size=2, precision="bf16")
    gradients = []
    for taught_by in (teacher, in_halves(teacher)):
        model = copy.deepcopy(teacher)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(1.1)
        wanted = Objective(cross_entropy=0.4, logits=0.5, hidden=0.1)
        TrainingLoss(model, training, wanted, taught_by).backward(batch_BT, batch_BT[:, 1:].numel())
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    assert gradients[0] and all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
