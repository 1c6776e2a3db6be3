"""One tiny whole run, growth included, on 1, 2 and 4 processes over gloo: how far losses and weights differ.

    python benchmarks/process_counts.py

This prints the table of docs/results/process-counts.md. The processes are forked (`tests/runs/launch.py`), as torchrun would
start them. Runs of several parts are stopped by SIGTERM after the third step of a round and go on with another number of processes.
"""

import json
import os
import platform
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runs"))

import numpy as np
import torch
import yaml
from kills_commands import make_input
from launch import launched
from safetensors.numpy import load_file

from inheritune import run
from inheritune.errors import Interrupted
from inheritune.training.metrics import Metrics

# (processes, way) of a run, or of each of its parts.
RUNS = (
    [(2, "ddp")], [(4, "ddp")], [(2, "fsdp")], [(4, "fsdp")],
    [(1, "ddp"), (2, "ddp")], [(2, "fsdp"), (4, "fsdp")], [(4, "fsdp"), (1, "ddp")], [(4, "ddp"), (2, "fsdp")],
)  # fmt: skip


def main() -> None:
    """Run, compare, print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["INHERITUNE_CACHE"] = str(Path(scratch) / "cache")
        recipe = smaller_micro_batches(str(make_input(Path(scratch)) / "run.yaml"))
        print(
            "| precision, optimizer | processes | steps | largest difference of a loss | of a weight |\n|---|---|---|---|---|"
        )
        for precision, optimizer in (("fp32", "adamw"), ("bf16", "adamw"), ("fp32", "muon")):
            alone = Path(scratch) / f"alone-{precision}-{optimizer}"
            settings = {"training__precision": precision, "training__optimizer": optimizer}
            run(recipe, out=str(alone), **settings)
            for number, parts in enumerate(RUNS):
                out = Path(scratch) / f"{precision}-{optimizer}-{number}"
                in_parts(recipe, out, parts, settings)
                told = ", then ".join(f"{count} ({way})" if count > 1 else "1" for count, way in parts)
                print(f"| {precision}, {optimizer} | {told} | {len(losses(out))} | {apart(losses(out), losses(alone)):.1e} |"
                      f" {max(apart(a, b) for a, b in zip(weights(out), weights(alone), strict=True)):.1e} |")  # fmt: skip
    print(f"\ntorch {torch.__version__}, {platform.machine()}, gloo, one thread a process.")


def smaller_micro_batches(recipe: str) -> str:
    """Set micro-batches of two sequences in a step of eight, so that four processes have one micro-batch each."""
    tree = yaml.safe_load(Path(recipe).read_text())
    tree["training"] |= {"micro_batch_size": 2}
    Path(recipe).write_text(yaml.safe_dump(tree))
    return recipe


def in_parts(recipe: str, out: Path, parts: list[tuple[int, str]], settings: dict[str, str]) -> None:
    """Do the run in parts, each but the last ended by SIGTERM."""
    for number, (count, way) in enumerate(parts):
        last = number == len(parts) - 1

        def part(way: str = way, last: bool = last) -> None:
            if not last:
                Metrics.add = stopping(Metrics.add)  # type: ignore[method-assign]
            try:
                run(recipe, out=str(out), processes__parallel=way, **settings)
                assert last
            except Interrupted:
                assert not last

        ends = launched(count, part)
        assert ends == [0] * count, ends


def stopping(add: Any) -> Any:
    """Wrap `Metrics.add`, so that it sends SIGTERM after the third step."""

    def stopped(metrics: Metrics, row: dict[str, Any]) -> None:
        add(metrics, row)
        if row["kind"] == "step" and row["step"] == 3:
            signal.raise_signal(signal.SIGTERM)

    return stopped


def losses(out: Path) -> np.ndarray:
    """The training loss of every step."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return np.array([row["loss"] for row in rows if row["kind"] == "step"])


def weights(out: Path) -> list[np.ndarray]:
    """The target's tensors, sorted by name."""
    return [tensor for _, tensor in sorted(load_file(out / "model" / "model.safetensors").items())]


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """The largest absolute difference."""
    return float(np.abs(one - other).max())


if __name__ == "__main__":
    main()
