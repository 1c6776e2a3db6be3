"""The training loss of a batch and its gradient, in micro-batches that sum to exactly the batch's mean.

B sequences, T positions, N = B * T rows, D hidden size, V vocabulary.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from inheritune.config import sections as config
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import evaluating
from inheritune.errors import RecipeError
from inheritune.progress import silent
from inheritune.runtime import processes, sharded
from inheritune.runtime.device import autocast, strictly_repeatable
from inheritune.training.head import OutputHead
from inheritune.training.kernels import fastest, is_compiled, row_losses
from inheritune.training.replay import Replay
from inheritune.training.terms.hidden import hidden


class TrainingLoss:
    """The loss of one model's training; made once per round.

    `teacher` is needed where `wanted` has a term that needs one; it is run in evaluation mode and never trained. `say` gets a sentence
    where a micro-batch cannot be recorded as a CUDA graph. Raises RecipeError where teacher and model cannot be compared.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        training: config.Training,
        wanted: config.Objective | None = None,
        teacher: PreTrainedModel | None = None,
        say: Callable[[str], None] = silent,
    ):
        self.model, self.training, self.wanted = model, training, wanted or config.Objective()
        if training.checkpoint_activations:
            model.activation_checkpointing_enable({"use_reentrant": False})
        self.teacher = teacher if self.wanted.taught else None
        if self.wanted.taught and teacher is None:
            raise RecipeError("objective.logits and objective.hidden need a teacher, and this training has none")
        dtype = torch.bfloat16 if training.precision == "bf16" else torch.float32
        self.head = OutputHead(model, dtype)
        self.pairs: list[tuple[int, int]] = []
        self.sums_once = False  # of a sharded model: gradients stay unsharded until a batch's last micro-batch
        self.around_last: Callable[[], AbstractContextManager[None]] = nullcontext  # context for that micro-batch
        if self.teacher is not None:
            self.pairs = _pairs(model, self.teacher, self.wanted)
            self.teacher_head = OutputHead(self.teacher, dtype)
        self.replay: Replay | None = None
        if _can_record(model, training):
            self.replay = Replay(model, [self.teacher] if self.teacher else [], say)

    def backward(self, batch_BT: Tensor, tokens: int, asked_BT: Tensor | None = None) -> dict[str, Tensor]:
        """Add the gradient of the loss, summed over `batch_BT` and divided by `tokens`, to the parameters; return the loss in parts.

        The parts are `loss` and, where it has several terms, each term. They are float64 scalars on the device, so that nothing waits
        for them here.

        `batch_BT` (sequences, T + 1) is this process's share of a batch whose loss is over `tokens` labels in all processes;
        `asked_BT` (sequences, T) marks these labels, if they are not all.
        """
        sums: dict[str, Tensor] = {}
        spread, size = sharded.is_sharded(self.model.parameters()), self.training.micro_batch_size
        weight_VD = None if spread or self._recording(asked_BT) else self.head.weight()
        asked = itertools.repeat(None) if asked_BT is None else asked_BT.split(size)
        left = len(parts := batch_BT.split(size))
        for sequences_BT, own_BT in zip(parts, asked, strict=False):
            left -= 1
            sharded.sum_now(self.model, not (self.sums_once and left))
            with nullcontext() if left else self.around_last():
                found = self._micro_batch(sequences_BT, own_BT, weight_VD, 1 / tokens)
            for name, part in found.items():
                sums[name] = sums.get(name, 0.0) + part.double() / tokens
        return {"loss": self._loss(sums), **(sums if len(sums) > 1 else {})}

    def _loss(self, parts: dict[str, Tensor]) -> Tensor:
        weighted = [self.wanted.weights[name] * value for name, value in parts.items()]
        return sum(weighted[1:], weighted[0])

    def _micro_batch(
        self, sequences_BT: Tensor, asked_BT: Tensor | None, weight_VD: Tensor | None, scale: float
    ) -> dict[str, Tensor]:
        # The backward pass too: under checkpoint_activations it computes the blocks again.
        with fastest(self.model, self.training), strictly_repeatable(self.model.device):
            if replay := self._recording(asked_BT):
                return replay(self._plainly, sequences_BT, scale)
            return self._differentiate(sequences_BT, asked_BT, weight_VD, scale)

    def _recording(self, asked_BT: Tensor | None) -> Replay | None:
        """The replay, for a batch in which all labels count; else micro-batches differ in shape, and there is none."""
        return self.replay if asked_BT is None else None

    def _plainly(self, sequences_BT: Tensor, scale: float) -> dict[str, Tensor]:
        return self._differentiate(sequences_BT, None, None, scale)

    def _differentiate(
        self, sequences_BT: Tensor, asked_BT: Tensor | None, weight_VD: Tensor | None, scale: float
    ) -> dict[str, Tensor]:
        ids, labels = sequences_BT[:, :-1], _asked(sequences_BT[:, 1:].flatten(), asked_BT)
        taught, aims = self._teach(ids, asked_BT)
        watched = _outputs(self.model, [own for own, _ in self.pairs])
        with autocast(self.training.precision, self.model.device), watched as outputs:
            states = _asked(self.head.states(ids), asked_BT)
        weight_VD = self.head.weight() if weight_VD is None else weight_VD
        sums, gradient = self._through_head(states.detach(), labels, taught, weight_VD, scale)
        if not self.pairs:
            torch.autograd.backward(states, gradient)
            return sums
        distances = [
            hidden(_asked(outputs[own], asked_BT), _asked(aims[other], asked_BT), self.wanted)
            for own, other in self.pairs
        ]
        distance = torch.stack(distances).mean()
        torch.autograd.backward([states, distance], [gradient, torch.full_like(distance, self.wanted.hidden * scale)])
        return {**sums, "hidden": distance.detach()}

    def _through_head(
        self, states: Tensor, labels: Tensor, taught: Tensor | None, weight_VD: Tensor, scale: float
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Loss sums and the states' gradient, one chunk of the rows at a time."""
        gradient, sums = torch.empty_like(states), dict[str, Tensor]()
        teacher_weight = self.teacher_head.weight() if taught is not None else weight_VD
        for rows in self.head.chunks(states):
            logits = self.head.logits(states[rows], weight_VD)
            theirs = None if taught is None else self.teacher_head.logits(taught[rows], teacher_weight)
            found = row_losses(logits, labels[rows], theirs, self.wanted, scale, is_compiled(self.training))
            for name, value in found.items():
                sums[name] = sums.get(name, 0.0) + value
            gradient[rows] = self.head.backward(states[rows], logits, weight_VD)
        return sums, gradient

    def _teach(self, ids_BT: Tensor, asked_BT: Tensor | None) -> tuple[Tensor | None, dict[int, Tensor]]:
        """The teacher's states before its head, and after the blocks that the model's blocks are compared with."""
        if self.teacher is None:
            return None, {}
        watched = _outputs(self.teacher, [other for _, other in self.pairs])
        precision = self.training.precision
        with (
            evaluating(self.teacher),
            autocast(precision, self.teacher.device),
            fastest(self.teacher, self.training),
            watched as outputs,
        ):
            states = _asked(self.teacher_head.states(ids_BT), asked_BT)
        return (states if self.wanted.logits else None), outputs


def _can_record(model: PreTrainedModel, training: config.Training) -> bool:
    """Whether a micro-batch's passes may be one CUDA graph: nothing is sent to other processes, and nothing recomputed."""
    alone = processes.count() == 1 and not training.checkpoint_activations
    return training.compile == "graph" and model.device.type == "cuda" and alone


def _asked(rows: Tensor, asked_BT: Tensor | None) -> Tensor:
    """Select from rows (N, ...) or (B, T, ...) those whose labels count; all, where `asked_BT` is None."""
    if asked_BT is None:
        return rows
    return rows[asked_BT if rows.shape[:2] == asked_BT.shape else asked_BT.flatten()]


def _pairs(model: PreTrainedModel, teacher: PreTrainedModel, wanted: config.Objective) -> list[tuple[int, int]]:
    """Pair blocks of the model with blocks of the teacher: as `layers` says, or at the same relative depth."""
    rows = [m.get_output_embeddings().weight.shape[0] for m in (model, teacher)]
    if wanted.logits and rows[0] != rows[1]:
        raise RecipeError(
            f"objective.logits: the model has {rows[0]} logits and its teacher {rows[1]}: they must be the same"
        )
    if not wanted.hidden:
        return []
    widths = [m.config.get_text_config().hidden_size for m in (model, teacher)]
    if widths[0] != widths[1]:
        raise RecipeError(
            f"objective.hidden: the model is {widths[0]} wide and its teacher {widths[1]}: they must be the same"
        )
    depths = anatomy(model).depth, anatomy(teacher).depth
    found = wanted.layers or {block: -(-(block + 1) * depths[1] // depths[0]) - 1 for block in range(depths[0])}
    for own, other in found.items():
        if own >= depths[0] or other >= depths[1]:
            raise RecipeError(
                f"objective.layers pairs {own} with {other}: there are {depths[0]} and {depths[1]} blocks"
            )
    return sorted(found.items())


@contextmanager
def _outputs(model: PreTrainedModel, blocks: list[int]) -> Iterator[dict[int, Tensor]]:
    """Within the context, collect the hidden states (B, T, D) after some blocks whenever the model runs."""
    found: dict[int, Tensor] = {}

    def keep(index: int) -> Any:
        def hook(_block: nn.Module, _args: Any, output: Any) -> None:
            found[index] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [anatomy(model).blocks[index].register_forward_hook(keep(index)) for index in set(blocks)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
