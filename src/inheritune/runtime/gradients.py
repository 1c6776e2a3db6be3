"""Sum the gradients of several processes while the backward pass that computes them goes on."""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from inheritune.runtime import processes

_GOING = 2  # buckets in flight at once: sending never waits for a matrix product, and few copies are in memory


class GradientSums:
    """Adds the other processes' gradients of `parameters`, of one dtype, to this one's, a bucket at a time.

    A bucket is sent as soon as the last backward pass has completed its gradients. Buckets and their order follow from the parameters
    alone, so that they are the same in every process, and the sums have the same bits as without the overlap. The gradients of `made`
    are complete before that pass begins.
    """

    def __init__(self, parameters: Sequence[Tensor], made: Collection[Tensor] = ()):
        self._buckets = list(processes.buckets(parameters))[::-1]  # a backward pass makes the last ones first
        self._bucket_of = {id(parameter): place for place, bucket in enumerate(self._buckets) for parameter in bucket}
        self._made = {id(parameter) for parameter in made}
        self._missing: list[set[int]] = []
        self._begun = 0
        self._going: deque[Callable[[], None]] = deque()

    @contextmanager
    def beside_pass(self) -> Iterator[None]:
        """Context for the last backward pass before `finish`, during which buckets are sent."""
        if processes.count() == 1:
            yield
            return
        self._missing = [{id(parameter) for parameter in bucket} - self._made for bucket in self._buckets]
        parameters = [parameter for bucket in self._buckets for parameter in bucket]
        hooks = [parameter.register_post_accumulate_grad_hook(self._note) for parameter in parameters]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self) -> None:
        """Send the buckets that are not sent yet, and wait for all."""
        if processes.count() > 1:
            self._send_until(len(self._buckets))
        while self._going:
            self._going.popleft()()
        self._begun = 0

    def _note(self, parameter: Tensor) -> None:
        self._missing[self._bucket_of[id(parameter)]].discard(id(parameter))
        end = self._begun
        while end < len(self._missing) and not self._missing[end]:
            end += 1
        self._send_until(end)

    def _send_until(self, end: int) -> None:
        for bucket in self._buckets[self._begun : end]:
            self._going.append(processes.adding_others([p.grad for p in bucket if p.grad is not None]))
            if len(self._going) > _GOING:
                self._going.popleft()()
        self._begun = max(self._begun, end)
