"""A recorded micro-batch against the same passes as they are, with a stand-in for CUDA's graphs that does what was recorded again."""

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rounds import batches, training
from tiny import untrained_model
from torch import Tensor
from transformers import PreTrainedModel

from inheritune.training import objective, replay
from inheritune.training.objective import TrainingLoss
from inheritune.training.replay import Replay, Sums

SCALE = 1 / 64
BATCHES = [torch.from_numpy(batches()[index]) for index in range(4)]


class Graphs:
    """CUDA's graphs on the CPU: what ran while one was recorded runs again at each replay, into the same numbers."""

    def __init__(self, plain: Callable[[Tensor, float], Sums]):
        self.plain, self.calls, self.replays, self.off = plain, 0, 0, 0.0
        self.refuses = False
        self.last: tuple[Tensor, float, Sums] | None = None

    def passes(self, sequences_BT: Tensor, scale: float) -> Sums:
        self.calls += 1
        found = self.plain(sequences_BT, scale)
        self.last = sequences_BT, scale, found
        return found

    @contextmanager
    def graph(self, graph: "Recording", **_: Any) -> Iterator[None]:
        yield
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nmore of it")
        graph.held = self.last

    def cuda(self) -> dict[str, Callable[..., Any]]:
        stream = SimpleNamespace(wait_stream=lambda other: None, device=torch.device("cpu"))
        return {
            "Stream": lambda device: stream, "current_stream": lambda device: stream, "stream": lambda stream: nullcontext(),
            "CUDAGraph": lambda: Recording(self), "graph": self.graph, "memory_reserved": lambda device: 5 * self.calls,
            "get_rng_state": lambda device: torch.get_rng_state(), "set_rng_state": lambda state, device: torch.set_rng_state(state),
        }  # fmt: skip


class Recording:
    def __init__(self, of: Graphs):
        self.of, self.held = of, None

    def replay(self) -> None:
        sequences_BT, scale, sums = self.held  # type: ignore[misc]
        self.of.replays += 1
        for name, value in self.of.plain(sequences_BT, scale).items():
            sums[name].copy_(value + self.of.off)


Made = tuple[PreTrainedModel, Graphs, Replay, list[str]]


def model_with_dropout() -> PreTrainedModel:
    return untrained_model("gpt2", resid_pdrop=0.1).train()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """A model, the stand-in, its replay and what was said."""
    model = model_with_dropout()
    graphs = Graphs(TrainingLoss(model, training())._plainly)
    for name, own in graphs.cuda().items():
        monkeypatch.setattr(torch.cuda, name, own)
    said: list[str] = []
    return model, graphs, Replay(model, [], said.append), said


def steps(model: PreTrainedModel, work: Callable[[Tensor, float], Sums], count: int = 4) -> list[float]:
    """Losses and gradients' norms of steps of two micro-batches, each of which drops its gradients at its end."""
    found: list[float] = []
    for index in range(count):
        torch.manual_seed(index)
        for half in BATCHES[index % 4].chunk(2):
            found.append(float(work(half, SCALE)["cross_entropy"]))
        found += [float(p.grad.double().norm()) for p in model.parameters() if p.grad is not None]
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad  # type: ignore[operator]
        model.zero_grad()
    return found


def plain_steps() -> list[float]:
    model = model_with_dropout()
    return steps(model, TrainingLoss(model, training())._plainly)


def test_replayed_steps_have_the_losses_and_gradients_of_plain_ones(made: Made) -> None:
    """The first step runs as it is, the second's first micro-batch too and is recorded; from there on all is replayed."""
    model, graphs, work, said = made
    assert steps(model, partial(work, graphs.passes)) == plain_steps()
    assert (graphs.calls, graphs.replays, said) == (4, 6, [])


def test_what_a_pass_beside_it_adds_is_kept(made: Made) -> None:
    model, graphs, work, _ = made
    steps(model, partial(work, graphs.passes), 2)
    plain = model_with_dropout()
    plain.load_state_dict(model.state_dict())
    first, second = BATCHES[0].chunk(2)
    torch.manual_seed(9)
    for part in (first, second):
        TrainingLoss(plain, training())._plainly(part, SCALE)
    torch.manual_seed(9)
    graphs.plain(first, SCALE)
    work(graphs.passes, second, SCALE)
    for own, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(own.grad, other.grad)  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", ["another loss", "refused"])
def test_a_recording_that_is_wrong_or_fails_is_told_and_not_used(made: Made, trouble: str) -> None:
    model, graphs, work, said = made
    graphs.off, graphs.refuses = (0.5, False) if trouble == "another loss" else (0.0, True)
    assert steps(model, partial(work, graphs.passes)) == plain_steps()
    why = "a replay has other losses or gradients" if graphs.off else "operation not permitted when stream is capturing"
    assert said == [f"A micro-batch of this model cannot be recorded, and runs as it is, which takes longer ({why})"]
    assert work.recorded is None


def test_weights_that_moved_another_shape_and_another_scale_are_recorded_anew(made: Made) -> None:
    model, graphs, work, said = made
    steps(model, partial(work, graphs.passes), 2)
    first = work.recorded
    weight = next(model.parameters())
    weight.data = weight.data.clone()
    steps(model, partial(work, graphs.passes), 1)
    second = work.recorded
    assert second is not first and second is not None
    work(graphs.passes, BATCHES[0][:1], SCALE)
    third = work.recorded
    model.zero_grad()
    work(graphs.passes, BATCHES[0][:1], SCALE / 2)
    assert third is not second and work.recorded is not third and not said


def test_a_recording_makes_room_where_memory_is_short_and_comes_back(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, graphs, work, _ = made
    steps(model, partial(work, graphs.passes), 2)
    assert work.recorded and work.recorded.held == 5
    monkeypatch.setattr(replay.gauge, "free_memory", lambda device: 5)
    work.make_room()
    assert work.recorded
    monkeypatch.setattr(replay.gauge, "free_memory", lambda device: 4)
    work.make_room()
    assert not work.recorded
    steps(model, partial(work, graphs.passes), 1)
    assert work.recorded


def test_a_training_that_records_is_freed_as_soon_as_it_ends(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model, teacher and recording take a GPU's memory until then."""
    monkeypatch.setattr(objective, "_can_record", lambda *_: True)
    model = model_with_dropout()
    loss = TrainingLoss(model, training())
    loss.backward(BATCHES[0], 64)
    gone = weakref.ref(model), weakref.ref(loss), weakref.ref(loss.replay)
    gc.disable()
    try:
        del model, loss
        assert [ref() for ref in gone] == [None, None, None]
    finally:
        gc.enable()
