"""Losses of eight steps, kept at full precision: a change of the arithmetic shows here, whatever it was meant to be.

`PYTHONPATH=tests python tests/training/test_golden.py` writes them anew (torch 2.13.0, CPU, one thread).
"""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds import train_round
from tiny import untrained_model

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_gpt2_cpu.txt"


def losses(optimizer: str, folder: Path) -> list[float]:
    rows: list[dict[str, Any]] = []
    train_round(folder, untrained_model("gpt2"), observe=rows.append, optimizer=optimizer)
    return [row["loss"] for row in rows]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_losses_are_the_golden_ones(optimizer: str, tmp_path: Path) -> None:
    kept = dict(line.split(": ") for line in GOLDEN.read_text().splitlines())
    wanted = [float.fromhex(number) for number in kept[optimizer].split()]
    assert losses(optimizer, tmp_path) == pytest.approx(wanted, rel=1e-5)


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        found = {optimizer: losses(optimizer, Path(scratch) / optimizer) for optimizer in ("adamw", "muon")}
    lines = [f"{optimizer}: {' '.join(number.hex() for number in numbers)}" for optimizer, numbers in found.items()]
    GOLDEN.write_text("\n".join(lines) + "\n")
