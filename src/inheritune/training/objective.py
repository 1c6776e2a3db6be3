"""What is minimised on a batch, and its gradient, in micro-batches that sum to exactly the batch's mean."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.blocks.flops import forward_flops_per_token
from inheritune.config import Training
from inheritune.runtime.device import autocast


class Objective:
    """The loss of one model's training; made once a round, as it may hold what every step needs."""

    def __init__(self, model: PreTrainedModel, training: Training):
        self.model, self.training = model, training

    def backward(self, batch_BT: Tensor, tokens: int) -> dict[str, float]:
        """Add the gradient of the loss summed over `batch_BT`, divided by `tokens`; returns the parts, `loss` their sum.

        `batch_BT` (sequences, T + 1) is this process's share of a batch that has `tokens` labels over all processes.
        """
        total = 0.0
        for sequences_BT in batch_BT.split(self.training.micro_batch_size):
            loss = self._cross_entropy(sequences_BT) / tokens
            torch.autograd.backward(loss)
            total += float(loss.detach())
        return {"loss": total}

    def flops_per_token(self, length: int) -> int:
        """FLOPs of training on one token of a sequence of `length`."""
        return 3 * forward_flops_per_token(self.model, length)

    def _cross_entropy(self, sequences_BT: Tensor) -> Tensor:
        with autocast(self.training.precision):
            logits = self.model(input_ids=sequences_BT[:, :-1], use_cache=False).logits
        labels = sequences_BT[:, 1:].flatten()
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels, reduction="sum")
