"""What is swapped in for speed computes the same, and is gone afterwards."""

from pathlib import Path

import pytest
import torch
from rounds import batches, training
from tiny import untrained_model
from torch import nn
from torch._dynamo.testing import CompileCounter
from transformers.activations import NewGELUActivation

from inheritune.runtime.device import CPU
from inheritune.training import guards, kernels
from inheritune.training.objective import TrainingLoss

BATCH_BT = torch.from_numpy(batches()[0])


def test_auto_is_bf16_and_a_graph_on_a_gpu_and_neither_elsewhere() -> None:
    for on, meant in (
        (CPU, ("fp32", "none")),
        (torch.device("mps"), ("fp32", "none")),
        (torch.device("cuda"), ("bf16", "graph")),
    ):
        found = kernels.settled(training(), on)
        assert (found.precision, found.compile) == meant
    named = training(precision="bf16", compile="none")
    assert kernels.settled(named, CPU) == kernels.settled(named, torch.device("cuda")) == named


@pytest.mark.parametrize(
    ("compiler", "headers", "missing"),
    [("gcc", True, None), ("clang", True, None), (None, True, "a C compiler"), ("gcc", False, "Python's header files")],
)
def test_a_gpu_without_what_triton_builds_with_trains_as_it_is_and_is_told(
    compiler: str | None, headers: bool, missing: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == compiler else None)
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    if headers:
        (tmp_path / "Python.h").touch()
    kernels.lacks_to_compile.cache_clear()
    assert kernels.lacks_to_compile() == missing
    assert kernels.is_compiled(training(compile="graph")) == (missing is None)
    told = (
        missing
        and f"Warning: nothing is compiled, which makes steps slower: this machine has a GPU and lacks {missing}"
    )
    assert guards.not_compiled(training(compile="graph")) == guards.not_compiled(training(compile="blocks")) == told
    assert guards.not_compiled(training(compile="none")) is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kernels.lacks_to_compile.cache_clear()
    assert kernels.lacks_to_compile() is None, "and so it stays for the tests that follow"


def test_gelu_new_is_the_fused_function_within_rounding() -> None:
    numbers = torch.linspace(-12, 12, 10_001)
    assert (NewGELUActivation()(numbers) - kernels._fused_gelu(numbers)).abs().max() < 1e-6


def test_on_the_cpu_nothing_is_swapped_and_everywhere_all_is_put_back() -> None:
    model = untrained_model("gpt2")
    inside: list[nn.Module] = [*model.transformer.h, *(block.mlp.act for block in model.transformer.h)]
    with kernels.fastest(model, training()):
        assert not any("forward" in vars(module) for module in inside)
    with pytest.raises(ValueError), kernels.fastest(model, training(compile="blocks")):
        assert sum("forward" in vars(module) for module in inside) == 5
        raise ValueError
    assert not any("forward" in vars(module) for module in inside)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_one_compilation_serves_blocks_of_every_depth_and_gives_the_same_gradient(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph is taken and run as it is, so that what compiling costs is not waited for."""
    counter = CompileCounter()
    monkeypatch.setattr(kernels, "_compiled", lambda forward: torch.compile(forward, backend=counter))
    found = []
    for depth in (2, 5):
        wanted, model = (
            untrained_model(family, num_hidden_layers=depth),
            untrained_model(family, num_hidden_layers=depth),
        )
        plain = TrainingLoss(wanted, training()).backward(BATCH_BT, 100)["loss"].item()
        assert TrainingLoss(model, training(compile="blocks")).backward(BATCH_BT, 100)["loss"].item() == pytest.approx(
            plain, rel=1e-6
        )
        for (name, one), other in zip(wanted.named_parameters(), model.parameters(), strict=True):
            assert torch.allclose(one.grad, other.grad, atol=1e-6), name
        found.append(counter.frame_count)
    assert found[0] == found[1] > 0
