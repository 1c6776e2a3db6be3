"""A micro-batch's forward and backward passes, recorded once as a CUDA graph and replayed.

A step of a small model is thousands of kernels of microseconds, and launching each takes the CPU longer than the kernel runs.

B sequences, T positions.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inheritune.runtime import gauge

Sums = dict[str, Tensor]
Passes = Callable[[Tensor, float], Sums]
# Relative tolerance between the sums and gradients of a replay and of a plain run: non-deterministic kernels add in any order.
_CLOSE = 1e-3


class Replay:
    """Runs `passes(sequences_BT, scale)`, which add to the gradients of `model` and return sums, as one launch.

    `passes` must be the same in every call. It is passed each time and not kept, so that no reference cycle keeps its owner, which holds
    this, alive. The first call runs plainly, so that everything is compiled. The next call that finds no gradients runs plainly too, then
    records; where recording fails, or a replay gives other sums or gradients, `say` is told and no graph is used. `read` are the modules
    that the passes read beside the model. For another shape or scale, or once a weight is at another address, a graph is recorded anew.
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
        """Drop the recording where the device has less free memory than the recording holds; a later call records anew."""
        if self.recorded and gauge.free_memory(self.stream.device) < self.recorded.held:
            self.recorded = None

    def _beside(self, passes: Passes, sequences_BT: Tensor, scale: float) -> Sums:
        """Run the passes plainly, on the stream that is used for recording."""
        now = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(now)
        with torch.cuda.stream(self.stream):
            found = passes(sequences_BT, scale)
        now.wait_stream(self.stream)
        return found

    def _record(self, passes: Passes, sequences_BT: Tensor, scale: float) -> Sums:
        """Run plainly, record, and replay with the same dropout; return the replay's sums if they agree, else a plain run's."""
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
    """One CUDA graph: for one shape and scale, reading tensors at fixed addresses, adding to gradients of its own."""

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
        torch.cuda.empty_cache()  # as recording does too: the memory reserved after it shall be the graph's alone
        before = torch.cuda.memory_reserved(stream.device)
        self.graph = torch.cuda.CUDAGraph()
        # Calls of this thread alone are checked: another thread may be copying a checkpoint.
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.sums = passes(self.sequences_BT, scale)
        self.held = max(0, torch.cuda.memory_reserved(stream.device) - before)

    def fits(self, sequences_BT: Tensor, scale: float, read: Sequence[Tensor]) -> bool:
        """Whether the graph is for this shape and scale, and all tensors that it reads are at the same addresses."""
        alike = sequences_BT.shape == self.sequences_BT.shape and scale == self.scale
        return alike and _places(read) == self.places

    def replay(self, sequences_BT: Tensor, anew: bool = False) -> Sums:
        """Return the sums, valid until the next replay; add to the gradients or, with `anew`, replace them."""
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
