"""An accelerator made of the CPU's memory, as strict as a real one: it finds what would die on a GPU where there is none.

Its tensors refuse to meet tensors of the CPU and to become numpy arrays, and each wait of the CPU for the device is counted.
`install` makes it PyTorch's own further backend (PrivateUse1), for the rest of the process: before the first backward pass.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

NAME = "emulated"
MEMORY = 1 << 34
waits: Counter[str] = Counter()
"""How often the CPU waited for the device, by the place in the package that asked."""

# What a real device takes from the CPU: copies, and indices.
_MAY_MEET = {"aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::index_put", "aten::set_"}  # fmt: skip
# What autocast takes in bf16, and what in fp32.
_IN_HALVES = [(name, torch.bfloat16) for name in ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention")]  # fmt: skip
_WHOLE = [(name, torch.float32) for name in ("softmax.int", "log_softmax.int", "layer_norm", "cross_entropy_loss", "pow.Tensor_Scalar", "rsqrt", "exp", "sum")]  # fmt: skip
_WAITS = {"aten::_local_scalar_dense", "aten::equal", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::_unique2"}  # fmt: skip


class OnDevice(Tensor):
    """A tensor on the device; `held` is where its numbers are in truth."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=f"{NAME}:0"
        )  # fmt: skip
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return torch.Tensor.detach(self)

    @data.setter
    def data(self, other: "OnDevice") -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.held = other.held

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def tolist(self) -> Any:
        _waited("tolist")
        return self.held.tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copied: Tensor = OnDevice(self.held.clone())
            is_parameter = isinstance(self, torch.nn.Parameter)
            memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if is_parameter else copied
        return memo[id(self)]

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({tuple(self.shape)}, {self.dtype})"


class _Everywhere(TorchDispatchMode):
    """Sees also what makes tensors out of nothing."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _call(func, args, kwargs or {})


class _Backend(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, *_: Any) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, *_: Any) -> None:
        torch.set_rng_state(state)

    def synchronize(self, *_: Any) -> None:
        _waited("synchronize")

    def mem_get_info(self, *_: Any) -> tuple[int, int]:
        return MEMORY // 2, MEMORY

    def memory_reserved(self, *_: Any) -> int:
        return MEMORY // 4

    def memory_allocated(self, *_: Any) -> int:
        return MEMORY // 8

    def max_memory_allocated(self, *_: Any) -> int:
        return MEMORY // 8


def install() -> None:
    """Add the device to this process."""
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"  # what follows holds in this thread alone
    _setup_privateuseone_for_python_backend(NAME, _Backend())
    for name, kind in (*_IN_HALVES, *_WHOLE):
        _library.impl(name, _cast(name, kind), "AutocastPrivateUse1")
    _others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    torch.nn.Module._apply = _in_place(torch.nn.Module._apply)  # type: ignore[method-assign]
    _device_constructors()  # kept by PyTorch from the first call on, with the function below as it was
    torch.tensor = _tensor_of(torch.tensor)
    _everywhere.__enter__()
    _installed.append(True)


_library, _others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
_everywhere, _installed = _Everywhere(), list[bool]()


@contextmanager
def unused() -> Iterator[None]:
    """What runs on the CPU alone while the block runs takes its usual time."""
    if not _installed:
        yield
        return
    _everywhere.__exit__(None, None, None)
    try:
        yield
    finally:
        _everywhere.__enter__()


def _cast(name: str, kind: torch.dtype) -> Any:
    """The operator under autocast: its numbers in one dtype, as a GPU takes them."""
    operator = getattr(torch.ops.aten, name.partition(".")[0])
    operator = getattr(operator, name.partition(".")[2] or "default")
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)

    def narrowed(x: Any) -> Any:
        return x.to(kind) if isinstance(x, OnDevice) and x.is_floating_point() and x.dtype != torch.float64 else x

    def called(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*_each(narrowed, args), **_each(narrowed, kwargs))

    return called


def _in_place(apply: Any) -> Any:
    """`Module.to` changes a parameter in place, as it does between real devices: what is tied stays tied.

    Tensors of unlike kinds change places for that; of like kinds PyTorch fills the parameter itself, and what hangs on it stays.
    """

    def applied(module: torch.nn.Module, act: Any, recurse: bool = True) -> torch.nn.Module:
        own = next(module.parameters(), None)
        moves = own is not None and act(own.detach().flatten()[:0]).device.type != own.device.type
        before = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(moves)
        try:
            return apply(module, act, recurse)
        finally:
            for parameter in module._parameters.values() if moves else ():
                if (hooks := getattr(parameter, "_post_accumulate_grad_hooks", None)) is not None:
                    parameter._post_accumulate_grad_hooks = hooks  # they hang on what has gone: here on what has come
            torch.__future__.set_swap_module_params_on_conversion(before)

    return applied


def _tensor_of(made: Any) -> Any:
    """`torch.tensor` fills what it makes out of sight of any mode: here on the CPU first."""

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        found = made(data, **options, device=None if device is None or _is_ours(device) else device)
        return found.to(device) if device is not None and _is_ours(device) else found

    return tensor


def _call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What PyTorch asks for, done where the numbers are in truth; what is changed in place is given back as it came."""
    name, to = func._schema.name, kwargs.get("device")
    given = _tensors((args, kwargs))
    ours = [x for x in given if isinstance(x, OnDevice)]
    made_here = bool(ours) if to is None else _is_ours(to)
    if not ours and not made_here:
        return func(*args, **kwargs)
    if ours:
        _refuse(name, [x for x in given if not isinstance(x, OnDevice)])
        if name in _WAITS or not made_here or (name == "aten::copy_" and args[0] is not ours[0]):
            _waited(name)
    if name == "aten::_fused_sdp_choice":
        return 0
    if to is not None and made_here:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    found = func(*_each(_held, args), **_each(_held, kwargs))
    known = {id(_held(x)): x for x in given}
    return _each(lambda x: _on_device(x, known, made_here), found)


def _on_device(value: Any, known: dict[int, Tensor], made_here: bool) -> Any:
    if not isinstance(value, Tensor) or isinstance(value, OnDevice):
        return value
    return known[id(value)] if id(value) in known else OnDevice(value) if made_here else value


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple | dict):
            found += _tensors(value.values() if isinstance(value, dict) else value)
    return found


def _each(act: Any, value: Any) -> Any:
    """`act` on all that a value of lists, tuples and dictionaries holds."""
    if isinstance(value, dict):
        return {key: _each(act, one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_each(act, one) for one in value)
    return act(value)


def _refuse(name: str, theirs: list[Tensor]) -> None:
    """A real device takes a single number of the CPU beside its own tensors, but not in a fused step."""
    if name in _MAY_MEET or not theirs or (all(x.dim() == 0 for x in theirs) and "_fused_" not in name):
        return
    shapes = ", ".join(str(tuple(x.shape)) for x in theirs)
    raise RuntimeError(f"{name}: tensors of the CPU, {shapes}, meet tensors of the device, at {_place()}")


def _held(x: Any) -> Any:
    return x.held if isinstance(x, OnDevice) else x


def _is_ours(device: Any) -> bool:
    return torch.device(device).type == NAME


def _waited(what: str) -> None:
    waits[f"{what} at {_place()}"] += 1


def _place() -> str:
    """Where in the package it was asked for."""
    frame = sys._getframe()
    while frame and "/src/inheritune/" not in frame.f_code.co_filename:
        frame = frame.f_back  # type: ignore[assignment]
    return (
        f"{frame.f_code.co_filename.rpartition('/inheritune/')[2]}:{frame.f_lineno}"
        if frame
        else "no place of the package"
    )


if __name__ == "__main__":  # python tests/emulated.py run ...: the command on this device
    from inheritune.cli import main

    os.environ["INHERITUNE_DEVICE"] = NAME
    install()
    main()
