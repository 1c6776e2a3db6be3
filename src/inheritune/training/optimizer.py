"""AdamW, or Muon for the blocks' matrices with AdamW for the rest; state by parameter name, so that growth can carry it.

Weight decay goes to the 2-D weights inside blocks alone (the paper excludes embeddings and norms). Muon's update is
scaled to AdamW's root mean square, so that one learning rate serves both.
"""

from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedModel

from inheritune.config.sections import Training
from inheritune.decoder.anatomy import anatomy
from inheritune.surgery.on_optimizer import OptimizerState
from inheritune.training.muon import Muon, matrices_in

Parameters = dict[str, nn.Parameter]


class Optimizer:
    """The optimizer of a model's trainable parameters, sharded or not."""

    def __init__(self, model: PreTrainedModel, training: Training):
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        inside = anatomy(model).path + "."
        matrices = {name for name, p in self.parameters.items() if name.startswith(inside) and p.ndim == 2}
        muon = matrices if training.optimizer == "muon" else set()
        self.parts = [
            part
            for part in (
                _adamw(self.parameters, matrices, muon, training),
                _muon(model, self.parameters, muon, training),
            )
            if part
        ]

    def step(self, rate: float) -> None:
        """Apply the gradients at a learning rate, then drop them."""
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()
            part.zero_grad()

    def state(self) -> OptimizerState:
        """Each parameter's state by the parameter's name."""
        return {name: dict(part.state[p]) for name, p in self.parameters.items() for part in self._holding(p)}

    def load_state(self, state: OptimizerState) -> None:
        """Load states by parameter name; a parameter that is not named starts with a fresh state."""
        for name, values in state.items():
            parameter = self.parameters[name]
            part = next(
                part for part in self.parts if any(parameter is p for g in part.param_groups for p in g["params"])
            )
            part.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in values.items()}

    def _holding(self, parameter: nn.Parameter) -> Iterator[torch.optim.Optimizer]:
        return (part for part in self.parts if parameter in part.state)


def _adamw(
    parameters: Parameters, matrices: set[str], muon: set[str], training: Training
) -> torch.optim.Optimizer | None:
    decayed = [p for name, p in parameters.items() if name in matrices - muon]
    kept = [p for name, p in parameters.items() if name not in matrices]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], betas=(training.beta1, training.beta2), fused=True)


def _muon(model: PreTrainedModel, parameters: Parameters, muon: set[str], training: Training) -> Muon | None:
    if not muon:
        return None
    chosen = [(parameters[name], matrices_in(model, name)) for name in parameters if name in muon]
    return Muon(chosen, training.weight_decay)
