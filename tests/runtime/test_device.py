"""The device by name, what is free there, products in full, and the tests for a device on one that is emulated."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from inheritune.decoder.stack import evaluating
from inheritune.errors import InputError
from inheritune.runtime import gauge
from inheritune.runtime.device import CPU, NAMED, device, strictly_repeatable, whole_products

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "said"),
    [("gpu", "is no device"), ("meta", "is no device"), ("cuda:99", "has 0 devices"), ("cpu:", "is no device")],
)
def test_a_name_that_is_no_device_here_is_refused(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv(NAMED, name)
    with pytest.raises(InputError, match=f"{NAMED} is '{name}'.*{said}"):
        device()


def test_without_a_name_it_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAMED)
    for there, found in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert device().type == found
    monkeypatch.setenv(NAMED, "cpu")
    assert device() == CPU


def test_what_pytorch_holds_unused_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = SimpleNamespace(
        mem_get_info=lambda: (100, 1000),
        memory_reserved=lambda: 50,
        memory_allocated=lambda: 20,
        max_memory_allocated=lambda: 45,
    )
    monkeypatch.setattr(torch, "get_device_module", lambda on: cards)
    assert gauge.free_memory(torch.device("cuda")) == 130 and gauge.peak_memory(torch.device("cuda")) == 45


def test_products_are_whole_where_losses_are_measured_and_as_they_were_afterwards() -> None:
    """Of matrices, and of convolutions, which cuDNN takes in TF32 unless it is told otherwise."""
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    backends = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "tf32"
        for measuring in (whole_products(), evaluating(torch.nn.Linear(2, 2))):
            with measuring:
                assert {backend.fp32_precision for backend in backends} == {"ieee"}
            assert {backend.fp32_precision for backend in backends} == {"tf32"}
    finally:
        for backend, kept in zip(backends, before, strict=True):
            backend.fp32_precision = kept


def test_what_is_meant_for_a_device_passes_on_one_that_is_emulated() -> None:
    """A process of its own, since PyTorch takes a further device only before its first backward pass."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--device", "emulated", str(ROOT / "tests" / "device")]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stdout[-6000:]


@pytest.mark.parametrize(
    ("asked", "on", "strict"), [(True, "cuda", True), (True, "cpu", False), (False, "cuda", False)]
)
def test_what_is_to_repeat_is_asked_for_strictly_on_a_gpu_alone(asked: bool, on: str, strict: bool) -> None:
    """While a block runs, and also where that fails; a mere warning before and after."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        torch.use_deterministic_algorithms(asked, warn_only=True)
        with pytest.raises(ValueError), strictly_repeatable(torch.device(on)):
            assert torch.are_deterministic_algorithms_enabled() == asked
            assert (asked and not torch.is_deterministic_algorithms_warn_only_enabled()) == strict
            raise ValueError
        assert torch.are_deterministic_algorithms_enabled() == asked
        assert not asked or torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
