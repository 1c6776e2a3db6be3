"""Refit what closes a block's MLP in closed form, so that the block's output comes near to what is wanted.

Three forms: a matrix whose output is added to the residual; one whose output is normalised first (the matrix is
fitted to what must enter the norm, then the norm's scale to what is left); routed experts, one after the other.

Shapes: B sequences, T tokens, N = B * T, D hidden width, I inner width of the MLP (plus one for a bias), E experts.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.names import EXPERTS_CLOSING, MLP_CLOSING, MLP_NORMS
from inheritune.decoder.stack import Stack
from inheritune.errors import ModelError

RIDGE = 0.01
STRAIGHT = 1e-3  # relative deviation of a block's output from linear in what is refitted: more is refused

Matrix = nn.Linear | Conv1D


def refit(stack: Stack, place: int, below_BTD: Tensor, wanted_BTD: Tensor) -> float:
    """Refit the block at `place`, so that its output for the input `below_BTD` comes nearer to `wanted_BTD`.

    Returns the FLOPs of the fit itself; `stack` counts those of the passes. Raises ModelError, and leaves the
    block as it is, where what closes its MLP has none of the three forms.
    """
    modules = dict(stack.blocks[place].named_modules())
    matrix = next((modules[name] for name in MLP_CLOSING if isinstance(modules.get(name), Matrix)), None)
    norm = next((modules[name] for name in MLP_NORMS if name in modules), None)
    experts = next((p for name, p in stack.blocks[place].named_parameters() if name.endswith(EXPERTS_CLOSING)), None)
    fit = _Fit(stack, place, below_BTD, wanted_BTD)
    with torch.no_grad():
        if matrix is not None and norm is None and (scale := fit.scale_of(matrix)):
            _refit_plain(fit, matrix, scale)
        elif matrix is not None and norm is not None and (scale := fit.scale_of(norm)):
            _refit_normed(fit, matrix, norm, scale)
        elif norm is not None or not any(_refit_experts(fit, *form) for form in _forms(experts, below_BTD.shape[-1])):
            kind = stack.model.config.model_type
            raise ModelError(f"Cannot heal {kind!r}: nothing known closes its MLP and is added to the residual.")
    return fit.flops


class _Fit:
    """One block, its input and the output that is wanted of it."""

    def __init__(self, stack: Stack, place: int, below_BTD: Tensor, wanted_BTD: Tensor) -> None:
        self.stack, self.place, self.below_BTD, self.wanted_BTD = stack, place, below_BTD, wanted_BTD
        self.flops = 0.0

    def given(self) -> Tensor:
        """The block's current output, (N, D) in float64."""
        return self.stack.run(self.below_BTD, [self.place]).flatten(0, -2).double()

    def missing(self) -> Tensor:
        return self.wanted_BTD.flatten(0, -2).double() - self.given()

    def seen(self, module: nn.Module, see: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
        """Run the block, and return what `see(input, output)` gives for each chunk that goes through the module."""
        found: list[Tensor] = []
        with _hooked(module, lambda _module, args, output: found.append(see(args[0], output))):
            self.given()
        return found

    def scale_of(self, module: nn.Module) -> float | None:
        """The factor with which the module's output is added to the residual; None if it is not added so."""
        part_N = torch.cat(self.seen(module, lambda _, output: output.reshape(-1).clone())).double()
        whole_ND = self.given()
        with _hooked(module, lambda _module, _args, output: output * 0):
            moved_N = (whole_ND - self.given()).reshape(-1)
        scale = (moved_N @ part_N / (part_N @ part_N)).item()
        straight = (moved_N - scale * part_N).norm() <= STRAIGHT * moved_N.norm()
        return scale if straight and scale else None


def _refit_plain(fit: _Fit, matrix: Matrix, scale: float) -> None:
    _add(matrix, _change(fit, matrix, fit.missing() / scale, lambda output_ND: torch.ones_like(output_ND[:, :1])))


def _change(fit: _Fit, matrix: Matrix, missing_ND: Tensor, weights_of: Callable[[Tensor], Tensor]) -> Tensor:
    """The change of the matrix (I, D) that best gives `missing_ND`, if the matrix's output is multiplied by `weights_of(output)`."""
    sums: dict[str, Any] = {"gram": 0, "cross": 0}
    left = missing_ND

    def see(inner: Tensor, output: Tensor) -> Tensor:
        nonlocal left
        inner_NI, output_ND = (tensor.reshape(-1, tensor.shape[-1]).double() for tensor in (inner, output))
        if matrix.bias is not None:
            inner_NI = F.pad(inner_NI, (0, 1), value=1.0)
        inner_NI = inner_NI * weights_of(output_ND)
        rows_ND, left = left[: len(inner_NI)], left[len(inner_NI) :]
        sums["gram"] = sums["gram"] + inner_NI.T @ inner_NI
        sums["cross"] = sums["cross"] + inner_NI.T @ rows_ND
        return output_ND[:0]

    fit.seen(matrix, see)
    return _ridge(fit, sums["gram"], sums["cross"], len(missing_ND))


def _ridge(fit: _Fit, gram_II: Tensor, cross_ID: Tensor, rows: int) -> Tensor:
    """Solve for the change (I, D) by ridge regression, which pulls towards no change."""
    inner, width = cross_ID.shape
    fit.flops += 2 * rows * inner * (inner + width)
    weight = RIDGE * gram_II.diagonal().mean()
    return torch.linalg.solve(gram_II + weight * torch.eye(inner).to(gram_II), cross_ID)


def _refit_normed(fit: _Fit, matrix: Matrix, norm: nn.Module, scale: float) -> None:
    """Fit the matrix to what must enter the norm, with each token's norm held fixed; keep that if it helps; then fit the norm's scale."""
    gain_D, before_ND = _gain(fit, norm), fit.missing()
    kept = [parameter.clone() for parameter in matrix.parameters()]
    wanted_ND = before_ND / scale * gain_D / (gain_D.square() + RIDGE * gain_D.square().mean())
    _add(matrix, _change(fit, matrix, wanted_ND, _one_over_rms))
    missing_ND = fit.missing()
    if missing_ND.norm() >= before_ND.norm():
        for parameter, own in zip(matrix.parameters(), kept, strict=True):
            parameter.copy_(own)
        missing_ND = before_ND
    unit_ND = torch.cat(fit.seen(norm, lambda inner, _: _units(inner)))
    square_D = unit_ND.square().sum(0)
    change_D = (unit_ND * missing_ND / scale).sum(0) / (square_D + RIDGE * square_D.mean())
    weight = norm.get_parameter("weight")
    weight.add_(change_D.to(weight.dtype))


def _gain(fit: _Fit, norm: nn.Module) -> Tensor:
    """The factor by which the norm multiplies each channel, (D,): its weight, or 1 + its weight."""
    unit_ND = torch.cat(fit.seen(norm, lambda inner, _: _units(inner)))
    output_ND = torch.cat(fit.seen(norm, lambda _, output: output.reshape(-1, output.shape[-1]).double()))
    return (unit_ND * output_ND).sum(0) / unit_ND.square().sum(0)


def _one_over_rms(output_ND: Tensor) -> Tensor:
    return output_ND.square().mean(-1, keepdim=True).add(1e-6).rsqrt()


def _units(inner: Tensor) -> Tensor:
    inner_ND = inner.reshape(-1, inner.shape[-1]).double()
    return inner_ND * _one_over_rms(inner_ND)


def _forms(weights: nn.Parameter | None, width: int) -> list[tuple[nn.Parameter, bool]]:
    """The possible layouts of experts' matrices: (E, D, I) as in a linear layer (turned), or (E, I, D)."""
    if weights is None or weights.dim() != 3:
        return []
    return [(weights, axis == 1) for axis in (1, 2) if weights.shape[axis] == width]


def _refit_experts(fit: _Fit, weights: nn.Parameter, turned: bool) -> bool:
    """Fit each expert's closing matrix to what is still missing; return False, and change nothing, where the block is not linear in it."""
    kept, missing_ND, before_ND = weights.clone(), fit.missing(), fit.given()
    matrices_EID = kept.double().transpose(1, 2).clone() if turned else kept.double()
    weights.zero_()
    nothing_ND = fit.given()
    told_ND = nothing_ND.clone()
    for expert, matrix_ID in enumerate(matrices_EID):
        inner_NI = _inner(fit, weights, expert, turned, nothing_ND)
        told_ND += inner_NI @ matrix_ID
        if inner_NI.any():
            change_ID = _ridge(fit, inner_NI.T @ inner_NI, inner_NI.T @ missing_ND, len(inner_NI))
            missing_ND = missing_ND - inner_NI @ change_ID
            matrices_EID[expert] += change_ID
    straight = (told_ND - before_ND).norm() <= STRAIGHT * (before_ND - nothing_ND).norm()
    weights.copy_((matrices_EID.transpose(1, 2) if turned else matrices_EID) if straight else kept)
    return bool(straight)


def _inner(fit: _Fit, weights: nn.Parameter, expert: int, turned: bool, nothing_ND: Tensor) -> Tensor:
    """The input of an expert's closing matrix times the router's weight, (N, I), read off the block's output.

    All experts' matrices must be zero; with a selection matrix in place of this expert's, the output shows D of the I channels at a time.
    """
    own_ID = weights[expert].T if turned else weights[expert]
    inner, width = own_ID.shape
    found = []
    for first in range(0, inner, width):
        count = min(width, inner - first)
        own_ID[first : first + count, :count] = torch.eye(count).to(weights)
        found.append((fit.given() - nothing_ND)[:, :count])
        own_ID.zero_()
    return torch.cat(found, dim=1)


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _add(matrix: Matrix, change_ID: Tensor) -> None:
    if matrix.bias is not None:
        matrix.bias += change_ID[-1].to(matrix.bias.dtype)
        change_ID = change_ID[:-1]
    matrix.weight += (change_ID if isinstance(matrix, Conv1D) else change_ID.T).to(matrix.weight.dtype)
