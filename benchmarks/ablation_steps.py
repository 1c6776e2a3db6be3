"""Steps whose objective, and whose parts' learning rates, change on the way; and a repair of every block of a cut."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.stack import Stack
from inheritune.runs.bench import Bench
from inheritune.runtime.device import device
from inheritune.surgery.refit import refit
from inheritune.training import checkpoint
from inheritune.training.checkpoint import Position
from inheritune.training.objective import Objective
from inheritune.training.optimizer import Optimizer
from inheritune.training.schedule import learning_rate, steps_of

Pick = Callable[[int], tuple[Objective, Mapping[str, float]]]


class Steps:
    """The training loop in its plainest form, for what changes from step to step: what is minimised, and what moves."""

    def __init__(
        self, bench: Bench, model: PreTrainedModel, training: Training, before: Position, groups: dict[str, str],
        checkpoints: Path | None = None,
    ):  # fmt: skip
        self.bench, self.model, self.training, self.first = bench, model, training, before.step
        self.checkpoints, self.position = checkpoints, Position()
        named = {group: {name for name, own in groups.items() if own == group} for group in set(groups.values())}
        self.parts = {group: self._part(names) for group, names in named.items()}
        if checkpoints and (place := checkpoint.latest(checkpoints)):
            state, self.position = checkpoint.load(place, model)
            for part in self.parts.values():
                part.load_state({name: own for name, own in state.items() if name in part.parameters})

    def take(self, pick: Pick) -> Position:
        """All steps; `pick(step)` says what is minimised and by which factor each group's rate is multiplied."""
        self.model.train()
        last, every = steps_of(self.training), self.training.checkpoint_every
        while self.position.step < last:
            self._step(*pick(self.position.step))
            if self.checkpoints and (self.position.step % every == 0 or self.position.step == last):
                state = {name: own for part in self.parts.values() for name, own in part.state().items()}
                checkpoint.save(self.checkpoints, self.model, state, self.position)
        return self.position

    def _step(self, objective: Objective, rates: Mapping[str, float]) -> None:
        batch = torch.from_numpy(self.bench.batches[self.first + self.position.step]).to(device())
        tokens, length = batch[:, 1:].numel(), batch.shape[1] - 1
        torch.manual_seed(self.first + self.position.step)  # dropout's, so that a continued run takes the same steps
        objective.backward(batch, tokens)
        frozen = [part for group, part in self.parts.items() if rates.get(group) == 0]
        for part in frozen:
            for parameter in part.parameters.values():
                parameter.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.training.clip)
        rate = learning_rate(self.training, self.position.step)
        moving = {group: part for group, part in self.parts.items() if part not in frozen}
        for group, part in moving.items():
            part.step(rate * rates.get(group, 1.0))
        self.position.step, self.position.tokens = self.position.step + 1, self.position.tokens + tokens
        own = sum(part.flops_per_step for part in moving.values())
        self.position.flops += tokens * objective.flops_per_token(length) + own

    def _part(self, names: set[str]) -> Optimizer:
        """An optimizer of some of the parameters."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in names)
        part = Optimizer(self.model, self.training)
        self.model.requires_grad_(True)
        return part


def heal_all(model: PreTrainedModel, reference: PreTrainedModel, blocks: Sequence[int], tokens_BT: Tensor) -> float:
    """Refit every block from below, so that it gives what the reference gives before the next one; returns the FLOPs."""
    parent, own, flops = Stack(reference, tokens_BT), Stack(model, tokens_BT), 0.0
    wanted_BTD, below_BTD, done = parent.hidden0, own.hidden0, 0
    for place, following in enumerate([*blocks[1:], parent.depth]):
        wanted_BTD, done = parent.run(wanted_BTD, range(done, following)), following
        flops += refit(own, place, below_BTD, wanted_BTD)
        below_BTD = own.run(below_BTD, [place])
    return flops + parent.flops + own.flops
