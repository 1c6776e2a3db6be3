"""Checkpoints as folders, each written beside its place and moved there when whole; the last few are kept, a damaged one is skipped.

A checkpoint holds the weights, the optimizer's state by name, and a `state.json` with the position and the other files' hashes.
The schedule, the batches and the random numbers of a step are functions of the seed and the step, and need no file.
Nothing is pickled. A sharded model is written as one file per process, any other as one file of weights and one of optimizer states.
Where memory allows, the tensors are copied first, so that training continues while the copies are written.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from inheritune.disk.files import digest
from inheritune.disk.folders import beside, remove, whole_folder
from inheritune.errors import OutputError
from inheritune.records.stages import CheckpointState, Position
from inheritune.runtime import gauge, processes, sharded
from inheritune.runtime.background import Background
from inheritune.runtime.device import CPU
from inheritune.training.optimizer import OptimizerState

KEPT = 2
_FILES = ("model.safetensors", "optimizer.safetensors")
COPY_ROOM = 2  # tensors are copied where so many copies fit into the CPU's free memory
_Files = tuple[tuple[str | int, ...], ...]
_found_whole: set[_Files] = set()  # files of checkpoints that were written or verified here: not hashed again


def save(
    folder: Path,
    model: nn.Module,
    state: OptimizerState,
    position: Position,
    kept: int = KEPT,
    before_fall: bool = False,
    background: Background | None = None,
) -> Path:
    """Write a checkpoint of this position under `folder`, then remove all but the newest `kept`.

    The checkpoint `before_fall` of the learning rate is kept as well. Every process has to call this. With a `background`, and room in
    the CPU's memory, it returns once all tensors are copied, and the copies are written there. Raises OSError if it cannot be written;
    the `background` raises it at the next call.
    """
    place = folder / f"{'before-fall' if before_fall else 'step'}-{position.step:07d}"
    weights, states = _weights(model), _flat(state)
    if processes.is_main() or sharded.is_sharded(weights.values()):
        if background and COPY_ROOM * _held(weights | states) < gauge.free_memory(CPU):
            background.begin(partial(_store, place, _copied(weights), _copied(states), replace(position), kept))
        else:
            _store(place, weights, states, position, kept)
    processes.meet()
    return place


def latest(
    folder: Path,
    say: Callable[[str], None] = lambda text: None,
    fits: Callable[[Position], bool] = lambda position: True,
) -> Path | None:
    """Return the newest undamaged checkpoint whose position `fits`, or None; `say` is told of each newer one that is skipped.

    Raises OutputError if there are checkpoints and all of them are damaged.
    """
    reasons: list[str] = []
    found: Path | None = None
    for place in reversed(_all(folder)):
        if (reason := _unfit(place, fits)) is None:
            found = place
            break
        reasons.append(reason)
    if found is None and reasons and not any(map(_whole, _all(folder))):
        raise OutputError(
            f"every checkpoint in {str(folder)!r} is damaged: remove {str(folder.parent)!r} and what came after it, and the same"
            " command begins that anew"
        )
    for reason in reasons:
        say(reason)
    return found


def _unfit(place: Path, fits: Callable[[Position], bool]) -> str | None:
    if not _whole(place):
        return f"The checkpoint {place} is damaged and passed over: going on from the one before it"
    if not fits(position_of(place)):
        return f"The checkpoint {place} is of a shorter run whose rate had fallen: going on from one before that"
    return None


def drop_after(folder: Path, step: int) -> None:
    """Remove the checkpoints after `step`, which another schedule led to."""
    for place in _all(folder):
        if _number(place) > step:
            remove(place)


def position_of(place: Path) -> Position:
    """The position that a whole checkpoint holds."""
    return CheckpointState.load(place / CheckpointState.NAME).position


def load(place: Path, model: nn.Module) -> tuple[OptimizerState, Position]:
    """Load a checkpoint's weights into `model`; return the optimizer's state and the position.

    A sharded model and a whole one load the same checkpoints, whatever number of processes wrote them.
    """
    weights = _weights(model)
    if sharded.is_sharded(weights.values()) or not (place / _FILES[0]).exists():
        flat = sharded.read(place, weights)
    else:
        found = load_file(str(place / _FILES[0]))
        assert found.keys() == weights.keys(), f"{place} belongs to another model"
        for name, tensor in weights.items():
            tensor.copy_(found[name])
        flat = load_file(str(place / _FILES[1]))
    return _unflat(flat), position_of(place)


def checkpoint_bytes(model: nn.Module, states: int) -> int:
    """Bytes of a checkpoint of `model`, with an optimizer that keeps `states` numbers per weight."""
    return (1 + states) * sum(tensor.numel() * tensor.element_size() for tensor in _weights(model).values())


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters (tied ones once) and saved buffers, as they stand in the model."""
    names = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}


def _held(flat: dict[str, Tensor]) -> int:
    """Bytes of these tensors, with all parts of a sharded one."""
    return sum(tensor.numel() * tensor.element_size() for tensor in flat.values())


def _copied(flat: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.detach().to(CPU, copy=True) for key, tensor in flat.items()}


def _store(place: Path, weights: dict[str, Tensor], states: dict[str, Tensor], position: Position, kept: int) -> None:
    """Write the checkpoint `place`: each process its part of a sharded model, the main process everything else."""
    with ExitStack() as made:
        if processes.is_main():
            made.enter_context(whole_folder(place))
        if sharded.is_sharded(weights.values()):
            sharded.write(beside(place), weights | states)
        else:
            _write(beside(place), weights, states)
        if processes.is_main():
            _describe(beside(place), position)
    if processes.is_main():
        _found_whole.add(_files_of(place))
        _drop_old(place.parent, kept)


def _write(made: Path, weights: dict[str, Tensor], states: dict[str, Tensor]) -> None:
    for name, flat in zip(_FILES, (weights, states), strict=True):
        save_file({key: tensor.contiguous() for key, tensor in flat.items()}, str(made / name))


def _describe(made: Path, position: Position) -> None:
    hashes = {path.name: digest(path) for path in sorted(made.iterdir())}
    CheckpointState(position=position, hashes=hashes).save(made / CheckpointState.NAME)


def _drop_old(folder: Path, kept: int) -> None:
    for old in (*_named(folder, "step")[:-kept], *_named(folder, "before-fall")[:-1]):
        remove(old)


def _flat(state: OptimizerState) -> dict[str, Tensor]:
    return {f"{name}|{kind}": tensor for name, kinds in state.items() for kind, tensor in kinds.items()}


def _unflat(flat: dict[str, Tensor]) -> OptimizerState:
    state: OptimizerState = {}
    for key, tensor in flat.items():
        name, _, kind = key.rpartition("|")
        state.setdefault(name, {})[kind] = tensor
    return state


def _all(folder: Path) -> list[Path]:
    return sorted((*_named(folder, "before-fall"), *_named(folder, "step")), key=_number)


def _named(folder: Path, kind: str) -> list[Path]:
    return sorted(folder.glob(f"{kind}-*"))


def _number(place: Path) -> int:
    return int(place.name.rpartition("-")[2])


def _files_of(place: Path) -> _Files:
    """Names and stats of a checkpoint's files, which change when a file does, but not when the folder is moved."""
    files = [(path.name, path.stat()) for path in sorted(place.iterdir())]
    return tuple((name, file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns) for name, file in files)


def _whole(place: Path) -> bool:
    """Whether a checkpoint's files have their recorded hashes; they are read again only if they have changed since."""
    try:
        seen = _files_of(place)
        if seen not in _found_whole:
            hashes = CheckpointState.load(place / CheckpointState.NAME).hashes
            if any(digest(place / name) != hashes[name] for name in hashes):
                return False
            _found_whole.add(seen)
        return True
    except (OSError, OutputError):
        return False
