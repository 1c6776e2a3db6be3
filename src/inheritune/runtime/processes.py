"""The processes that torchrun started: this one's rank, sums over all of them, and which ones are lost.

Without torchrun there is one process, and nothing here does anything. This package alone names torch.distributed.
"""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from inheritune.errors import InputError, Interrupted, WorkerError
from inheritune.runtime.device import device
from inheritune.runtime.interruption import Terminated, exit_code
from inheritune.runtime.launch import Launch

_BEAT, _PATIENCE = 0.5, 3.0  # seconds between signs of life, and without one until a process counts as lost
_LONG_PATIENCE = 8.0  # the same where no error hints at a lost process, within the 30 that torchrun leaves
_ON_GPUS = "cuda:nccl"
_BUCKET = 1 << 24  # elements that are summed at once
_FAILED = "failed"  # key in the store, set once an error has ended a process
_groups, _turns = itertools.count(), itertools.count()
_Value = TypeVar("_Value")
_store: dist.Store | None = None
_writers: dist.ProcessGroup | None = None
_acting = False


@contextmanager
def joined(timeout_seconds: float) -> Iterator[None]:
    """Within the context, work with the other processes of a torchrun launch.

    Raises InputError where the launch's variables contradict each other, where the others do not come, or where two share one GPU.
    """
    global _store, _writers
    launch = Launch.told()
    if launch.count == 1 or dist.is_initialized():
        yield
        return
    timeout, card = timedelta(seconds=timeout_seconds), _take_card(launch.local_rank)
    try:
        store, _, _ = next(iter(dist.rendezvous("env://", timeout=timeout)))
        # A prefix of its own: workers that torchrun starts again would find what those before them left in its store.
        _store = dist.PrefixStore(f"inheritune-{launch.attempt}-{next(_groups)}", store)
        backend = f"cpu:gloo,{_ON_GPUS}" if card else "gloo"
        dist.init_process_group(backend, store=_store, rank=launch.rank, world_size=launch.count, timeout=timeout)
        _writers = dist.new_group(backend="gloo", timeout=timeout)
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(
            f"process {launch.rank} of {launch.count} (counted from 0) does not meet the others at {launch.address} within"
            f" {timeout_seconds:g} seconds ({str(error).splitlines()[0][:120]}): start all of them, by torchrun"
        ) from None
    with _signs_of_life(_store, launch.rank):
        try:
            _refuse_shared(card)
            yield
        except Interrupted:  # in every process alike
            _leave()
            raise
        except Terminated as error:
            if _store.check([_FAILED]):  # torchrun ends the others so after a failure, and they have nothing to report
                raise SystemExit(exit_code(error)) from None
            raise
        except Exception:
            with contextlib.suppress(RuntimeError):  # the store may be gone with its process
                _store.set(_FAILED, "1")
            raise
        _leave()


def _take_card(local_rank: int) -> str | None:
    """Select this process's GPU among those that it sees, which may be one alone; return the GPU's UUID, or None without a GPU."""
    if (on := device()).type != "cuda":
        return None
    number = local_rank % torch.cuda.device_count() if on.index is None else on.index
    torch.cuda.set_device(number)
    return str(torch.cuda.get_device_properties(number).uuid)


def _refuse_shared(card: str | None) -> None:
    """Raise InputError where two processes have one GPU: they would wait for each other without end."""
    cards = [] if card is None else of_all(card)
    if len(set(cards)) < len(cards):
        raise InputError(f"{len(cards)} processes have {len(set(cards))} GPUs: start at most one process for each GPU")


def _leave() -> None:
    """Leave the group once all processes are here: the first one to leave may take the store with it."""
    global _store, _writers
    dist.barrier()
    dist.destroy_process_group()
    _store = _writers = None


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def count() -> int:
    """How many processes work together: one, while the main process acts alone."""
    return dist.get_world_size() if dist.is_initialized() and not _acting else 1


def is_main() -> bool:
    """Whether this is the process that writes and speaks."""
    return rank() == 0


def writers() -> dist.ProcessGroup | None:
    """A second group of the same processes, for what they do together in a thread while they train."""
    return _writers


def share(batch: Tensor) -> Tensor:
    """This process's rows of a batch: consecutive ones, at most one more or fewer than any other process's."""
    return batch[own_rows(len(batch))]


def own_rows(rows: int) -> slice:
    """The slice of `rows` rows that is this process's."""
    return slice(rows * rank() // count(), rows * (rank() + 1) // count())


def on_main(act: Callable[[], object]) -> None:
    """Let the main process act while the others wait, however long it takes; what it writes is there for all afterwards."""
    global _acting
    if count() == 1:
        act()
        return
    assert _store is not None
    done = f"done/{next(_turns)}"
    if is_main():
        _acting = True
        act()
        _acting = False
        _store.set(done, "1")
    while not _store.check([done]):
        time.sleep(0.02)


def meet() -> None:
    """Wait until every process is here, the main one too: what it has written can then be read, and what all have read removed."""
    on_main(lambda: None)  # however long the main one takes
    agreed(0.0)


def main_first(compute: Callable[[], _Value]) -> _Value:
    """Run a computation in the main process, then in all, where the others find what it left; return each process's own result."""
    if count() == 1:
        return compute()
    on_main(compute)
    return compute()


def found_by_main(compute: Callable[[], _Value]) -> _Value:
    """Run a computation in the main process alone, and return its result in every process."""
    found = list[_Value]()
    on_main(lambda: found.append(compute()))
    return of_all(found)[0][0]


def agreed(value: float) -> float:
    """Return the main process's value in every process."""
    return summed([value if is_main() else 0.0])[0]


def least(value: float) -> float:
    """Return the least of all processes' values in every process."""
    return min(summed([value if number == rank() else 0.0])[0] for number in range(count()))


def summed(values: Sequence[float]) -> list[float]:
    """Each number's sum over all processes, in float64."""
    if count() == 1:
        return list(values)
    row = torch.tensor(values, dtype=torch.float64)
    _collective(partial(dist.all_reduce, row))
    return row.tolist()


def of_all(value: _Value) -> list[_Value]:
    """Return the values of all processes, in the order of their ranks, in every process."""
    if count() == 1:
        return [value]
    values: list[_Value] = [value] * count()
    _collective(lambda: dist.all_gather_object(values, value))
    return values


def add_others(tensors: Sequence[Tensor]) -> None:
    """Add the other processes' tensors to these, which are of one dtype, in place and on their device."""
    if count() == 1:
        return
    for bucket in buckets(tensors):
        adding_others(bucket)()


def adding_others(tensors: Sequence[Tensor]) -> Callable[[], None]:
    """Begin to add the other processes' tensors to these; the function that is returned waits until they are added."""
    if not tensors:
        return lambda: None
    whole = torch.cat([tensor.flatten() for tensor in tensors])
    sent = _collective(partial(dist.all_reduce, whole, async_op=True))

    def end() -> None:
        _collective(sent.wait)
        for tensor, part in zip(tensors, whole.split([own.numel() for own in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    return end


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group consecutive tensors into buckets, each of which is sent at once."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        bucket.append(tensor)
        if sum(g.numel() for g in bucket) >= _BUCKET:
            yield bucket
            bucket = []
    if bucket:
        yield bucket


def _collective(call: Callable[[], Any]) -> Any:
    """Run a call that needs every process; raises WorkerError, which names those that are lost, where it fails."""
    try:
        return call()
    except RuntimeError as error:
        raise _lost() from error


def lost() -> WorkerError | None:
    """Return an error that names the processes without a sign of life; None where there are none."""
    found = _lost() if count() > 1 else None
    return found if found and found.lost else None


def end_sums_with_lost(ended: threading.Event) -> None:
    """Where a process is lost, abort the GPU collectives that would wait for it forever; the next collective on the CPU then reports it.

    To be run in a thread, once this process was asked to stop; it watches for a few seconds, or until `ended` is set.
    """
    if count() == 1 or _ON_GPUS not in dist.get_backend_config():
        return
    try:
        lost = bool(_silent(_LONG_PATIENCE, ended.wait))
    except RuntimeError:  # the store is gone with the process that keeps it
        lost = True
    if lost and not ended.is_set():
        _abort_sums()


def _abort_sums() -> None:
    for group in list(dist.distributed_c10d._world.pg_map):
        if _ON_GPUS in dist.get_backend_config(group):
            group._get_backend(torch.device("cuda")).abort()


def _silent(seconds: float, wait: Callable[[float], object] = time.sleep) -> list[int]:
    """The other processes that give no sign of life while so many seconds go by."""
    before = [_sign(number) for number in range(count())]
    wait(seconds)
    return [number for number in range(count()) if _sign(number) == before[number] and number != rank()]


def _lost() -> WorkerError:
    """Wait for signs of life, and return an error that names the processes without one, which the first of the others reports."""
    still = _silent(_PATIENCE)
    alive = [number for number in range(count()) if number not in still]
    return WorkerError(still, count(), told_here=rank() == alive[0])


def _sign(number: int) -> bytes:
    assert _store is not None
    name = f"alive/{number}"
    return _store.get(name) if _store.check([name]) else b""  # where there has been none yet, `get` would wait for it


@contextmanager
def _signs_of_life(store: dist.Store, number: int) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        # The store may go with the process that keeps it, at the end of a run or before.
        with contextlib.suppress(RuntimeError):
            for sign in itertools.count():
                store.set(f"alive/{number}", str(sign))
                if ended.wait(_BEAT):
                    return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    yield
    ended.set()
    thread.join()
