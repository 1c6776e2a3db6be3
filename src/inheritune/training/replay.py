"""A micro-batch's passes, recorded once as a CUDA graph and replayed.

A step of a small model is thousands of kernels of microseconds, and telling the GPU of each takes the CPU longer than it runs.

B sequences, T positions.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inheritune.runtime import gauge

Sums = dict[str, Tensor]
Passes = Callable[[Tensor, float], Sums]
# How far a replay's sums and gradients may be from those of the passes as they are: kernels that need not repeat add in any order.
_CLOSE = 1e-3


class Replay:
    """`passes(sequences_BT, scale)`, always the same ones, which add to the gradients of `model` and give sums, as one launch.

    They come with each call and are not kept, so that who holds this and gives them is freed at once. The first call runs as it is,
    so that all is compiled. The next one that finds no gradients records, once it has run as it is too: a replay that gives other
    sums or gradients is told (`say`) and not used, and neither is a recording that fails. `read` is what the passes read beside the
    model. Another shape or scale, or a weight that stands elsewhere, is recorded anew.
    """

    def __init__(self, model: nn.Module, read: Iterable[nn.Module], say: Callable[[str], None]):
        self.say = say
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.read = [tensor for each in (model, *read) for tensor in (*each.parameters(), *each.buffers())]
        self.stream = torch.cuda.Stream(self.parameters[0].device)
        self.usable, self.warm = True, False
        self.recorded: _Recorded | None = None

    def __call__(self, passes: Passes, sequences_BT: Tensor, scale: float) -> Sums:
        if not self.usable:
            return passes(sequences_BT, scale)
        if self.recorded and not self.recorded.fits(sequences_BT, scale, self.read):
            self.recorded = None
        if self.recorded:
            return self.recorded.replay(sequences_BT)
        if self.warm and all(parameter.grad is None for parameter in self.parameters):
            return self._record(passes, sequences_BT, scale)
        self.warm = True
        return self._beside(passes, sequences_BT, scale)

    def make_room(self) -> None:
        """Let the recording go where the device has less memory left than that holds; a later call records anew."""
        if self.recorded and gauge.free_memory(self.stream.device) < self.recorded.held:
            self.recorded = None

    def _beside(self, passes: Passes, sequences_BT: Tensor, scale: float) -> Sums:
        """The passes as they are, on the stream that is recorded."""
        now = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            found = passes(sequences_BT, scale)
        now.wait_stream(self.stream)
        return found

    def _record(self, passes: Passes, sequences_BT: Tensor, scale: float) -> Sums:
        """Run as it is, record, and replay the same, with the same dropout; what that gave, whichever way."""
        device, random = self.stream.device, torch.cuda.get_rng_state(self.stream.device)
        found = self._beside(passes, sequences_BT, scale)
        meant, norms = torch.stack([value.double() for value in found.values()]), self._norms()
        try:
            recorded = _Recorded(passes, sequences_BT, scale, self.parameters, self.read, self.stream)
            torch.cuda.set_rng_state(random, device)
            again = recorded.replay(sequences_BT, anew=True)
            same = torch.allclose(torch.stack([value.double() for value in again.values()]), meant, rtol=_CLOSE)
            same = same and torch.allclose(self._norms(), norms, rtol=_CLOSE, atol=_CLOSE * float(norms.max()))
            why = "" if same else "a replay has other losses or gradients"
        except RuntimeError as error:
            recorded, why = None, str(error).strip().splitlines()[0][:200]
        if recorded and not why:
            self.recorded = recorded
            return again
        self.usable = False
        self.say(f"A micro-batch of this model cannot be recorded, and runs as it is, which takes longer ({why})")
        for parameter in self.parameters:
            parameter.grad = None
        torch.cuda.set_rng_state(random, device)
        return self._beside(passes, sequences_BT, scale)

    def _norms(self) -> Tensor:
        return torch.stack(torch._foreach_norm([p.grad for p in self.parameters if p.grad is not None])).double()


class _Recorded:
    """One recording: of a shape and scale, of tensors where they stand, adding to gradients of its own."""

    def __init__(
        self,
        passes: Passes,
        sequences_BT: Tensor,
        scale: float,
        parameters: Sequence[Tensor],
        read: Sequence[Tensor],
        stream: Any,
    ):
        self.owned = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
        self.sequences_BT, self.scale, self.places = sequences_BT.clone(), scale, _places(read)
        torch.cuda.empty_cache()  # so does what records, and what is held after it is to be its own
        before = torch.cuda.memory_reserved(stream.device)
        self.graph = torch.cuda.CUDAGraph()
        # Only what this thread asks of the device counts: a checkpoint may be on its way in another.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.sums = passes(self.sequences_BT, scale)
        self.held = max(0, torch.cuda.memory_reserved(stream.device) - before)

    def fits(self, sequences_BT: Tensor, scale: float, read: Sequence[Tensor]) -> bool:
        """Whether it is of such a batch, and all that it reads stands where it stood."""
        alike = sequences_BT.shape == self.sequences_BT.shape and scale == self.scale
        return alike and _places(read) == self.places

    def replay(self, sequences_BT: Tensor, anew: bool = False) -> Sums:
        """Sums, which stand until the next replay; added to the gradients or, `anew`, in their place."""
        zeroed = []
        for parameter, own in self.owned:
            if parameter.grad is None or anew:
                zeroed.append(own)
            elif parameter.grad is not own:
                own.copy_(parameter.grad)
            parameter.grad = own
        if zeroed:
            torch._foreach_zero_(zeroed)
        self.sequences_BT.copy_(sequences_BT)
        self.graph.replay()
        return self.sums


def _places(read: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in read]
