"""Trackers that receive the rows of `metrics.jsonl`: TensorBoard, trackio, Weights & Biases, each an optional package by name."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inheritune.errors import RecipeError
from inheritune.records.rows import MetricsRow, step_of
from inheritune.runtime import processes

Send = Callable[[MetricsRow], None]
_MODULES = {"tensorboard": "torch.utils.tensorboard", "trackio": "trackio", "wandb": "wandb"}


def trackers(names: Sequence[str], run: str, folder: Path) -> list[Send]:
    """Return a function per tracker that sends it a row; none outside the main process. Raises RecipeError for one that is not installed."""
    return [_MAKERS[name](_module(name), run, folder) for name in names if processes.is_main()]


def _module(name: str) -> Any:
    try:
        return importlib.import_module(_MODULES[name])
    except ImportError:
        raise RecipeError(f"track names {name!r}, which is not installed: pip install {name}") from None


def _tensorboard(module: Any, run: str, folder: Path) -> Send:
    writer = module.SummaryWriter(str(folder / "tensorboard"))

    def tell(row: MetricsRow) -> None:
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, step_of(row))
        writer.flush()

    return tell


def _trackio(module: Any, run: str, folder: Path) -> Send:
    module.init(project="inheritune", name=run, resume="allow")
    return lambda row: module.log(_numbers(row), step=step_of(row))


def _wandb(module: Any, run: str, folder: Path) -> Send:
    logged = module.init(project="inheritune", name=run, dir=str(folder), resume="allow")
    return lambda row: logged.log(_numbers(row), step=step_of(row))


def _numbers(row: MetricsRow) -> dict[str, float]:
    """A row's numbers, named `kind/key`, and `kind/key/part` within a gap or a cost."""
    tree = row.model_dump(exclude_unset=True)
    flat = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    flat |= {f"{key}/{part}": value for key in tree.keys() - flat.keys() for part, value in tree[key].items()}
    return {f"{row.kind}/{key}": value for key, value in flat.items() if isinstance(value, int | float)}


_MAKERS: dict[str, Callable[[Any, str, Path], Send]] = {
    "tensorboard": _tensorboard,
    "trackio": _trackio,
    "wandb": _wandb,
}
