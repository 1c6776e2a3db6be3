import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rounds import LENGTH, train_round, training
from tiny import untrained_model

from inheritune.errors import OutputError, RecipeError, TrainingError
from inheritune.records.stages import Position
from inheritune.runtime import gauge, processes
from inheritune.runtime.device import CPU
from inheritune.training import checkpoint, guards
from inheritune.training.memory import step_memory


def test_divergence_is_said_once_and_only_where_the_loss_runs_away() -> None:
    falling, rising = guards.Divergence(), guards.Divergence()
    assert not any(falling.told(4 - step / 100 + 0.4 * (-1) ** step) for step in range(100))
    said = [rising.told(4 + max(0, step - 20) / 10) for step in range(100)]
    (told,) = [sentence for sentence in said if sentence]
    # At step 33 the last 16 steps lie (0.0 + 0.1 + ... + 1.3) / 16 = 0.57 above the best, a step before 0.49.
    assert said.index(told) == 33 and "is 0.57 above its best" in told and "training.peak_lr" in told


def test_too_little_disk_is_said_before_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = untrained_model("gpt2")
    weights = sum(p.numel() * 4 for p in model.parameters())
    needed = 3 * 3 * weights + (64 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=needed - 1))
    with pytest.raises(OutputError, match=r"need 0.07 GB, and the disk has 0.07 GB free.*training.checkpoints_kept"):
        train_round(tmp_path / "new" / "folder", model)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=needed))
    guards.require_disk(tmp_path, model, 2)


def test_a_checkpoint_is_as_large_as_predicted(tmp_path: Path) -> None:
    model, _ = train_round(tmp_path)
    held = sum(path.stat().st_size for path in (tmp_path / "step-0000008").iterdir())
    assert held == pytest.approx(
        checkpoint.checkpoint_bytes(model, 2), rel=0.15
    )  # headers and step counts of a tiny model


def test_a_batch_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 4)
    guards.require_shares(training(), 6, "ddp")
    for wanted, sequences, parallel, said in (
        (training(), 3, "ddp", "3 sequences .* 4 processes"),
        (training(), 6, "fsdp", "6 sequences .* 4 processes"),
    ):
        with pytest.raises(RecipeError, match=said):
            guards.require_shares(wanted, sequences, parallel)


def test_too_little_memory_is_said_with_what_to_try(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, wanted = untrained_model("gpt2"), training()
    least = step_memory(model, wanted, LENGTH).beside_weights
    monkeypatch.setattr(gauge, "free_memory", lambda on: least - 1)
    proposed = r"training.micro_batch_size=2 .*or training.checkpoint_activations=true"
    with pytest.raises(TrainingError, match=proposed):
        train_round(tmp_path, model)
    monkeypatch.setattr(gauge, "free_memory", lambda on: least)
    guards.require_training_memory(model, wanted, LENGTH, "ddp")
    full = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    assert "micro_batch_size=2" in str(guards.out_of_memory(full, wanted))
    assert guards.out_of_memory(RuntimeError("shapes differ"), wanted) is None
    smallest = training(micro_batch_size=1, checkpoint_activations=True)
    assert "more processes" in str(guards.out_of_memory(torch.OutOfMemoryError(), smallest))


def test_processes_decide_together_and_count_their_share_of_what_is_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The least free memory of all counts; of weights, gradients and states each process has a share under fsdp alone."""
    model, wanted = untrained_model("gpt2"), training()
    one, two = (step_memory(model, wanted, LENGTH, share=share) for share in (1, 2))
    whole, half = one.beside_weights, two.beside_weights
    assert whole - half == 3 * sum(p.numel() * 4 for p in model.parameters()) // 2 - (two.logits - one.logits)
    monkeypatch.setattr(gauge, "free_memory", lambda on: 1 << 40)
    monkeypatch.setattr(processes, "count", lambda: 2)
    for free, parallel, refused in (
        (half, "fsdp", False),
        (half - 1, "fsdp", True),
        (half, "ddp", True),
        (whole, "ddp", False),
    ):
        monkeypatch.setattr(processes, "summed", lambda row, free=free: [free if row == [0.0] else row[0]])
        with pytest.raises(TrainingError, match="are free") if refused else nullcontext():
            guards.require_training_memory(model, wanted, LENGTH, parallel)


def test_checkpointed_activations_give_the_same_weights(tmp_path: Path) -> None:
    whole, _ = train_round(tmp_path / "a", untrained_model("gpt2"))
    again, _ = train_round(tmp_path / "b", untrained_model("gpt2"), checkpoint_activations=True)
    for (name, one), other in zip(whole.named_parameters(), again.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    model = untrained_model("gpt2")
    for step in range(1, 6):
        checkpoint.save(tmp_path, model, {}, Position(step), kept=3)
    assert [path.name[-1] for path in sorted(tmp_path.iterdir())] == ["3", "4", "5"]


def test_the_machine_is_measured() -> None:
    assert 1e8 < gauge.matrix_rate("fp32", CPU) < 1e15
    assert 1 << 20 < gauge.free_memory(CPU) < 1 << 50 and 1 << 20 < gauge.peak_memory(CPU) < 1 << 50


def test_a_cpu_that_is_slow_in_bf16_is_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A product that takes six times as long in bf16 is warned of, once, before the first step; others are not."""
    monkeypatch.setattr(gauge, "_product", lambda matrix: 6.0 if matrix.dtype is torch.bfloat16 else 1.0)
    said: list[str] = []
    train_round(tmp_path / "slow", say=said.append, precision="bf16")
    train_round(tmp_path / "whole", say=said.append, precision="fp32")
    assert len(said) == 1 and "6.0 times slower" in said[0] and "training.precision=fp32" in said[0]
    monkeypatch.setattr(gauge, "_product", lambda matrix: 1.0)
    assert guards.slow_bf16(training(precision="bf16"), CPU) is None


def test_a_kernel_that_cannot_repeat_is_told_with_what_allows_it() -> None:
    asked = "but you set 'torch.use_deterministic_algorithms(True)'"
    error = RuntimeError(
        f"cumsum_cuda_kernel does not have a deterministic implementation, {asked}. You can turn it off."
    )
    assert str(guards.not_repeatable(error)) == (
        "'cumsum_cuda_kernel' gives other bits each time on this GPU, and training.repeatable asks for the same ones:"
        " set training.repeatable=false, also to go on with this run"
    )
    assert guards.not_repeatable(RuntimeError("shapes differ")) is None
