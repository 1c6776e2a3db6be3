"""A checkpoint is a folder, written beside and moved into place; the last two are kept, and a damaged one is passed over.

It holds the weights, the optimizer's state by name, torch's random state, and a `state.json` with the position and the
other files' hashes. Nothing is pickled.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from inheritune.errors import OutputError
from inheritune.training.optimizer import State

_KEPT = 2
_FILES = ("model.safetensors", "optimizer.safetensors")


@dataclass
class Position:
    """How far a round has come: steps done in it, and what they cost (tokens, FLOPs of training, seconds)."""

    step: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0


def save(folder: Path, model: nn.Module, state: State, position: Position) -> Path:
    """Write a checkpoint of this position under `folder`, and drop the ones before the last two."""
    place = folder / f"step-{position.step:07d}"
    beside = folder / f".{place.name}.partial"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_model(model, str(beside / _FILES[0]))
        save_file(_flat(state), str(beside / _FILES[1]))
        content = {"position": asdict(position), "hashes": {name: _hash(beside / name) for name in _FILES}}
        (beside / "state.json").write_text(json.dumps(content))
        shutil.rmtree(place, ignore_errors=True)
        beside.rename(place)
    except OSError as error:
        raise OutputError(f"a checkpoint cannot be written to {str(folder)!r}: {error.strerror or error}") from None
    for old in _all(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def latest(folder: Path) -> Path | None:
    """The newest checkpoint whose files are whole."""
    return next((place for place in reversed(_all(folder)) if _whole(place)), None)


def load(place: Path, model: nn.Module) -> tuple[State, Position]:
    """Put a checkpoint's weights and torch's random state in place; returns the optimizer's state and the position."""
    load_model(model, str(place / _FILES[0]))
    return load_state(place), Position(**json.loads((place / "state.json").read_text())["position"])


def load_state(place: Path) -> State:
    """A checkpoint's optimizer state by parameter name; torch's random state goes into place."""
    state: State = {}
    for key, tensor in load_file(str(place / _FILES[1])).items():
        name, _, kind = key.rpartition("|")
        state.setdefault(name, {})[kind] = tensor
    torch.set_rng_state(state.pop("")["random"])
    return state


def _flat(state: State) -> dict[str, torch.Tensor]:
    flat = {f"{name}|{kind}": tensor.contiguous() for name, kinds in state.items() for kind, tensor in kinds.items()}
    return flat | {"|random": torch.get_rng_state()}


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def _whole(place: Path) -> bool:
    try:
        hashes = json.loads((place / "state.json").read_text())["hashes"]
        return all(_hash(place / name) == hashes[name] for name in _FILES)
    except (OSError, ValueError, KeyError):
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "blake2b").hexdigest()
        os.fsync(file.fileno())
    return digest
