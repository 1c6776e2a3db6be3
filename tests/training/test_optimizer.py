from typing import Any

import pytest
import torch
from rounds import training
from tiny import untrained_model
from torch import nn
from transformers import PreTrainedModel

from inheritune.training.optimizer import Optimizer

RATE = 0.01


def give_gradients(model: PreTrainedModel, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def evened(gradient: torch.Tensor) -> torch.Tensor:
    """A matrix with singular values from 0.3 to 1: Newton-Schulz in five steps leaves very small ones small."""
    if gradient.ndim != 2:
        return gradient
    left, values, right = torch.linalg.svd(gradient, full_matrices=False)
    return left * torch.linspace(1, 0.3, len(values)) @ right


def pieces(name: str, tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """GPT-2 keeps queries, keys and values side by side in one matrix, (in, 3 * out)."""
    return tensor.chunk(3, dim=1) if "c_attn.weight" in name else (tensor,)


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def is_decayed(name: str, tensor: torch.Tensor, blocks: str) -> bool:
    return name.startswith(blocks) and tensor.ndim == 2


def test_adamw_by_its_formula() -> None:
    """Three steps of decoupled decay and bias-corrected moments, written out in float64."""
    model, wanted = untrained_model("gpt2"), training(beta1=0.8, beta2=0.9, weight_decay=0.5)
    optimizer, by_hand = Optimizer(model, wanted), {n: w.double() for n, w in weights(model).items()}
    first, second = ({name: torch.zeros_like(w) for name, w in by_hand.items()} for _ in range(2))
    for step in range(1, 4):
        gradients = give_gradients(model, step)
        optimizer.step(RATE)
        for name, gradient in gradients.items():
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.9 * second[name] + 0.1 * gradient.double() ** 2
            corrected = (first[name] / (1 - 0.8**step)) / ((second[name] / (1 - 0.9**step)).sqrt() + 1e-8)
            decay = 0.5 if is_decayed(name, gradient, "transformer.h.") else 0.0
            by_hand[name] = by_hand[name] * (1 - RATE * decay) - RATE * corrected
    for name, found in weights(model).items():
        assert torch.allclose(found.double(), by_hand[name], atol=1e-6), name


@pytest.mark.parametrize(("family", "blocks"), [("gpt2", "transformer.h."), ("llama", "model.layers.")])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_decay_reaches_the_blocks_matrices_alone(family: str, blocks: str, kind: str) -> None:
    model = untrained_model(family)
    before = weights(model)
    optimizer = Optimizer(model, training(optimizer=kind, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(RATE)
    shrunk = 0
    for name, after in weights(model).items():
        factor = 1 - RATE * 0.5 if is_decayed(name, after, blocks) else 1.0
        assert torch.allclose(after, before[name] * factor, rtol=1e-6, atol=0), name
        shrunk += factor < 1
    assert 0 < shrunk < len(before)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_muon_steps_are_near_orthogonal_and_as_large_as_adamws(family: str) -> None:
    """Newton-Schulz in five steps brings singular values near 1; the factor 0.2 * sqrt(larger side) gives RMS 0.2."""
    model = untrained_model(family)
    before, optimizer = weights(model), Optimizer(model, training(optimizer="muon", weight_decay=0.0))
    give_gradients(model, 3)
    names = {parameter: name for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.cat([evened(piece) for piece in pieces(names[parameter], parameter.grad)], dim=-1)
    optimizer.step(RATE)
    blocks = "transformer.h." if family == "gpt2" else "model.layers."
    for name, after in weights(model).items():
        step = (before[name] - after) / RATE
        if is_decayed(name, after, blocks):
            for piece in pieces(name, step):
                singular = torch.linalg.svdvals(piece / (0.2 * max(piece.shape) ** 0.5))
                assert singular.min() > 0.6 and singular.max() < 1.3, name
                assert 0.12 < piece.square().mean().sqrt() < 0.24, name
        else:
            assert step.abs() == pytest.approx(torch.ones_like(step), rel=1e-2), name  # AdamW's first step


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_state_by_name_carries_on_in_another_optimizer(kind: str) -> None:
    def step(optimizer: Optimizer, model: PreTrainedModel, seed: int) -> None:
        give_gradients(model, seed)
        optimizer.step(RATE)

    one, other = untrained_model("gpt2"), untrained_model("gpt2", seed=8)
    first = Optimizer(one, training(optimizer=kind))
    step(first, one, 1)
    kept: dict[str, dict[str, Any]] = {n: {k: v.clone() for k, v in s.items()} for n, s in first.state().items()}
    other.load_state_dict(one.state_dict())
    second = Optimizer(other, training(optimizer=kind))
    second.load_state(kept)
    step(first, one, 2)
    step(second, other, 2)
    assert set(kept) == {name for name, _ in one.named_parameters()}
    assert all(torch.equal(found, weights(one)[name]) for name, found in weights(other).items())


def test_a_parameter_without_state_starts_afresh() -> None:
    model = untrained_model("gpt2")
    optimizer = Optimizer(model, training())
    give_gradients(model, 1)
    optimizer.step(RATE)
    kept = {name: values for name, values in optimizer.state().items() if ".h.0." not in name}
    fresh = Optimizer(model, training())
    fresh.load_state(kept)
    give_gradients(model, 2)
    fresh.step(RATE)
    steps = {name: int(values["step"]) for name, values in fresh.state().items()}
    assert all(count == (1 if ".h.0." in name else 2) for name, count in steps.items())


def test_gradients_are_dropped_after_a_step() -> None:
    model = untrained_model("gpt2")
    optimizer = Optimizer(model, training(optimizer="muon"))
    give_gradients(model, 1)
    optimizer.step(RATE)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_muon_by_torchs_own_one_matrix_at_a_time() -> None:
    """Three steps against torch.optim.Muon given each piece as a parameter of its own; bf16 products leave rounding."""
    model = untrained_model("gpt2")
    optimizer = Optimizer(model, training(optimizer="muon", weight_decay=0.5))
    own = {
        name: [nn.Parameter(piece.detach().clone()) for piece in pieces(name, parameter)]
        for name, parameter in model.named_parameters()
        if is_decayed(name, parameter, "transformer.h.")
    }
    peer = torch.optim.Muon(
        [piece for held in own.values() for piece in held], lr=RATE, weight_decay=0.5, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(3):
        for name, gradient in give_gradients(model, step).items():
            for piece, part in zip(own.get(name, []), pieces(name, gradient), strict=False):
                piece.grad = part.clone()
        optimizer.step(RATE)
        peer.step()
    for name, held in own.items():
        moved = (weights(model)[name] - torch.cat([piece.detach() for piece in held], dim=1)).abs().max()
        assert moved < 0.02 * RATE * 3, name
