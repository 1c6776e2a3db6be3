"""Observe each layer's attention maps while the model computes them, one layer at a time, in any decoder.

There are two ways to observe a map. Most families hand query, key and value to transformers' attention interface: there the
family's own eager function computes the weights, beside whatever kernel computes the output. Families that implement their
own attention (BLOOM, MPT, Falcon) are observed through PyTorch's function mode: the softmax or the fused attention that
they call. Neither way touches the model's configuration, its masks or its output.

Shapes: B sequences, H heads, T tokens (queries and keys), D hidden size, E size of one head's output.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, AttentionInterface
from transformers.pytorch_utils import Conv1D

from inheritune.decoder.anatomy import anatomy

_PRODUCTS = {Tensor.mul, torch.mul}
_SOFTMAXES = {F.softmax, torch.softmax, Tensor.softmax, torch.nn.functional.softmax}


class Observer(Protocol):
    """The interface that the probe calls. A map is gone after `saw_map` returns unless the observer keeps it."""

    def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
        """The attention weights of one layer, after the softmax."""

    def saw_output(self, layer: int, share_BH: Tensor) -> None:
        """How much each head writes: norm of what it adds to the residual, over the norm of the residual."""


@contextmanager
def probing(model: PreTrainedModel, observer: Observer) -> Iterator[None]:
    """While open, every forward pass of `model` shows its attention maps to `observer`; outputs stay bit-equal.

    Sequences must be unpadded and the cache off. Everything is put back on leaving, also after an error.
    """
    probe = _Probe(observer, anatomy(model).blocks)
    with ExitStack() as stack:
        for remove in probe.hooks():
            stack.callback(remove)
        for interface in _interfaces(model):
            stack.enter_context(_tapped(interface, probe))
        stack.enter_context(_Mode(probe))
        yield


class _Probe:
    def __init__(self, observer: Observer, blocks: nn.ModuleList) -> None:
        self.observer = observer
        self.blocks = blocks
        self.layer: int | None = None
        self.busy = False
        self._residual_BT: Tensor | None = None
        self._heads: int | None = None
        self._written: _Written | None = None

    def hooks(self) -> Iterator[Callable[[], None]]:
        for index, block in enumerate(self.blocks):
            yield block.register_forward_pre_hook(self._entering(index), with_kwargs=True).remove
            # prepended, to run before a sharded block releases its weights
            yield block.register_forward_hook(self._leaving, prepend=True, always_call=True).remove
            for module in block.modules():
                if isinstance(module, nn.Linear | Conv1D):
                    yield module.register_forward_hook(self._projected).remove
                elif _scales(module):
                    yield module.register_forward_hook(self._normed).remove

    def _entering(self, index: int) -> Callable[..., None]:
        def enter(_block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            hidden = args[0] if args else kwargs["hidden_states"]
            self.layer, self._heads = index, None
            self._residual_BT = hidden.flatten(2).float().norm(dim=-1)

        return enter

    def _leaving(self, *_: Any) -> None:
        self._show_written()
        self.layer = self._heads = self._residual_BT = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Within this context, calls of attention functions are ignored: they belong to a map that is already observed."""
        before, self.busy = self.busy, True
        try:
            yield
        finally:
            self.busy = before

    def show(self, maps_BHTT: Tensor) -> None:
        assert self.layer is not None
        self._show_written()
        self._heads = maps_BHTT.shape[1]
        with self.looking(), torch.no_grad():
            self.observer.saw_map(self.layer, maps_BHTT.detach())

    def _projected(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """The first projection after a map is the attention's output projection: its input is the heads side by side."""
        if self._heads is None or self.layer is None:
            return
        inputs, heads, self._heads = args[0], self._heads, None
        if self._residual_BT is None or inputs.shape[-1] % heads or inputs.shape[:2] != self._residual_BT.shape:
            return
        self._written = _Written(module, inputs.detach(), heads, output.detach())

    def _normed(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Account for a norm directly on the attention's output, as in Gemma 2 and 3, before it is added to the residual."""
        if self._written is not None and _same(args[0], self._written.output):
            with self.looking(), torch.no_grad():
                self._written.scale_by(module, output.detach())

    def multiplied(self, tensor: Any, factor: Any) -> None:
        """Account for a scalar factor directly on the attention's output, before it is added to the residual (Granite)."""
        if self._written is not None and isinstance(factor, int | float) and _same(tensor, self._written.output):
            self._written.factor *= abs(factor)

    def _show_written(self) -> None:
        """Report what the heads write, once it is known what lies between them and the residual."""
        written, self._written = self._written, None
        if written is not None and self.layer is not None and self._residual_BT is not None:
            with self.looking(), torch.no_grad():
                self.observer.saw_output(self.layer, (written.norms_BTH() / self._residual_BT[..., None]).mean(1))


@dataclass
class _Written:
    """What the heads of a layer write: the inputs (B, T, H E) of the projection that sums them, and its output (B, T, D).

    An RMS norm after it multiplies each head's part by `gain_D` and, at every token, by `scale_BT`.
    """

    projection: nn.Module
    inputs: Tensor
    heads: int
    output: Tensor
    gain_D: Tensor | None = None
    scale_BT: Tensor | None = None
    factor: float = 1.0

    def scale_by(self, norm: nn.Module, normed_BTD: Tensor) -> None:
        """Account for `norm`, which turned the output into `normed_BTD`."""
        self.gain_D = norm(self.output.new_ones(1, 1, self.output.shape[-1])).flatten().float()
        plain_BTD = self.output.float() * self.gain_D
        self.scale_BT = normed_BTD.float().norm(dim=-1) / plain_BTD.norm(dim=-1).clamp(min=1e-30)

    def norms_BTH(self) -> Tensor:
        """Norm of what each head adds to the residual, through the Gram matrix of its slice of weights."""
        weight = self.projection.weight.T if isinstance(self.projection, nn.Linear) else self.projection.weight
        assert isinstance(weight, Tensor)
        weight_HED = weight.detach().float().unflatten(0, (self.heads, -1))
        if self.gain_D is not None:
            weight_HED = weight_HED * self.gain_D
        parts_BTHE = self.inputs.float().unflatten(-1, (self.heads, -1))
        gram_HEE = weight_HED @ weight_HED.mT
        norms_BTH = torch.einsum("bthe,hef,bthf->bth", parts_BTHE, gram_HEE, parts_BTHE).clamp(min=0).sqrt()
        scaled_BTH = norms_BTH * self.factor
        return scaled_BTH if self.scale_BT is None else scaled_BTH * self.scale_BT[..., None]


def _scales(module: nn.Module) -> bool:
    """Whether a module is an RMS norm, which is a product with a gain and a scale of each token."""
    return type(module).__name__.endswith("RMSNorm") or isinstance(module, nn.RMSNorm)


def _same(one: Any, other: Tensor) -> bool:
    return isinstance(one, Tensor) and one.shape == other.shape and one.data_ptr() == other.data_ptr()


def _interfaces(model: PreTrainedModel) -> list[AttentionInterface]:
    """The attention interfaces that this model's modules look their kernels up in."""
    names = {type(module).__module__ for module in model.modules()}
    own = [getattr(sys.modules[name], "ALL_ATTENTION_FUNCTIONS", None) for name in names if name in sys.modules]
    found = {id(one): one for one in own if isinstance(one, AttentionInterface)}
    return list(found.values()) or [ALL_ATTENTION_FUNCTIONS]


@contextmanager
def _tapped(interface: AttentionInterface, probe: _Probe) -> Iterator[None]:
    """Wrap every kernel of the interface, and `eager`, which each family otherwise supplies itself."""
    own = dict(interface._local_mapping)
    kernels = {name: interface[name] for name in interface.valid_keys()}
    try:
        for name, kernel in {"eager": None, **kernels}.items():
            interface[name] = _tap(kernel, probe)
        yield
    finally:
        interface._local_mapping.clear()
        interface._local_mapping.update(own)


def _tap(kernel: Callable[..., Any] | None, probe: _Probe) -> Callable[..., Any]:
    def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any = None, **kwargs: Any) -> Any:
        eager = _eager(module)
        compute = kernel or eager
        assert compute is not None
        if probe.layer is None or probe.busy:
            return compute(module, query, key, value, mask, **kwargs)
        with probe.looking():
            output = compute(module, query, key, value, mask, **kwargs)
            if kernel is None:
                maps = output[1]
            else:
                dense = _dense(mask, query, key, kwargs.get("sliding_window"))
                maps = (
                    _fused_weights(query, key, attn_mask=dense, scale=kwargs.get("scaling"))
                    if eager is None
                    else eager(module, query, key, value, dense, **kwargs)[1]
                )
        probe.show(maps)
        return output

    return attend


def _eager(module: nn.Module) -> Callable[..., Any] | None:
    """The eager attention that the module's own family defines."""
    homes = (sys.modules.get(kind.__module__) for kind in type(module).__mro__)
    return next((found for home in homes if (found := getattr(home, "eager_attention_forward", None))), None)


def _dense(mask: Any, query: Tensor, key: Tensor, window: int | None) -> Tensor:
    """The additive mask (·, ·, T, T) that eager attention needs, from whatever the kernel was given."""
    if isinstance(mask, Tensor) and mask.ndim == 4:
        mask = mask[..., : key.shape[-2]]
        return _additive(mask, query.dtype) if mask.dtype == torch.bool else mask
    rows = torch.arange(query.shape[-2], device=query.device)[:, None]
    columns = torch.arange(key.shape[-2], device=query.device)[None]
    if hasattr(mask, "mask_mod"):
        zero = torch.zeros((), dtype=torch.long, device=query.device)
        allowed = mask.mask_mod(zero, zero, rows, columns)
    else:
        allowed = columns <= rows
        if window is not None:
            allowed = allowed & (columns > rows - window)
    return _additive(allowed[None, None], query.dtype)


def _additive(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(~allowed, torch.finfo(dtype).min)


class _Mode(TorchFunctionMode):
    """The second way to observe maps: the softmax and fused attention of families that do not use the interface."""

    def __init__(self, probe: _Probe) -> None:
        super().__init__()
        self.probe = probe

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if self.probe.layer is None or self.probe.busy:
            return output
        if func in _PRODUCTS and len(args) == 2:
            self.probe.multiplied(*args)
        elif func in _SOFTMAXES:
            self._consider(output, args[0])
        elif func is F.scaled_dot_product_attention:
            self._consider(_fused_weights(*args, **kwargs), args[0])
        return output

    def _consider(self, maps: Any, source: Tensor) -> None:
        if is_map(maps):
            self.probe.show(maps.to(source.dtype) if maps.dtype != source.dtype else maps)


def is_map(tensor: Tensor) -> bool:
    """Whether a softmax's result has the form of an attention map, (B, H, T, T); a router's has not."""
    return tensor.ndim == 4 and tensor.shape[-1] == tensor.shape[-2] > 1


def _fused_weights(
    query: Tensor,
    key: Tensor,
    _value: Tensor | None = None,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """The weights that `scaled_dot_product_attention` computes but does not return."""
    key = key.repeat_interleave(query.shape[-3] // key.shape[-3], dim=-3)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = _dense(None, query, key, None)
    if attn_mask is not None:
        scores = scores + (_additive(attn_mask, scores.dtype) if attn_mask.dtype == torch.bool else attn_mask)
    return scores.softmax(-1, dtype=torch.float32).to(query.dtype)
