"""The hardware that a run may be planned for: devices by name, from their makers' data sheets, and this machine as it is."""

from pathlib import Path

from inheritune.disk.folders import free_bytes
from inheritune.errors import InputError
from inheritune.records.estimate import Machinery
from inheritune.runtime import gauge
from inheritune.runtime.device import device, whole_products
from inheritune.training.pace import SHARES_OF_SHEET

# Bytes of memory, and FLOP/s of dense products in fp32 without TF32 and in bf16.
_SHEETS: dict[str, tuple[int, float, float]] = {
    "h100": (80_000_000_000, 67e12, 989e12),
    "h200": (141_000_000_000, 67e12, 989e12),
    "a100": (80_000_000_000, 19.5e12, 312e12),
    "4090": (24_000_000_000, 82.6e12, 165e12),
}
HERE, THIS = "cpu", "this machine"


def machinery(name: str, processes: int, precision: str, price: float | None, folder: Path) -> Machinery:
    """Describe a device by name; `cpu` is this machine, whatever it computes on, whose matrix products are timed for half a second.

    Raises InputError for an unknown name, or a number of processes or a price that is out of range.
    """
    if processes < 1 or processes > 1 << 16:
        raise InputError(f"--gpus is {processes}: give a number from 1 to {1 << 16:,}")
    require_price(price)
    if name == HERE:
        memory, rate = gauge.free_memory(device()), gauge.matrix_rate(precision, device())
        fp32_rate = rate if precision != "bf16" else _fp32_rate()
        name = THIS if device().type == "cpu" else f"{THIS}'s {device().type}"
    elif name in _SHEETS:
        memory, fp32_rate, bf16_rate = _SHEETS[name]
        rate = bf16_rate if precision == "bf16" else fp32_rate
    else:
        raise InputError(f"--gpu {name!r} is unknown: choose {', '.join((*_SHEETS, HERE))}")
    return Machinery(
        name=name, processes=processes, memory=memory, disk=max(0, free_bytes(folder)), matrix_rate=rate, fp32_rate=fp32_rate,
        tried=False, price=price, shares=SHARES_OF_SHEET if name in _SHEETS else None,
    )  # fmt: skip


def require_price(price: float | None) -> None:
    """Raise InputError for a price that is not from 0 to 1e6; None is allowed."""
    if price is not None and not 0 <= price <= 1e6:
        raise InputError(f"--price is {price:g}: give what a device-hour costs, from 0 on")


def _fp32_rate() -> float:
    with whole_products():
        return gauge.matrix_rate("fp32", device())
