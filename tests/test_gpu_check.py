"""The check of a GPU runs to its end on tiny models, section by section, so that the day of a GPU is not spent on mending it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_section_ends_well_on_tiny_models() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_check.py"), "--tiny"]
    ended = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert ended.returncode == 0 and "FAILED" not in ended.stdout, ended.stdout + ended.stderr[-2000:]
    for section in ("speed", "profile", "diagnosis", "cutting"):
        assert len(set(re.findall(rf"^(.*), {section}: ", ended.stdout, re.MULTILINE))) == 2, ended.stdout
    losses = [float(loss) for loss in re.findall(r"first loss ([\d.]+)", ended.stdout)]
    assert losses == pytest.approx([losses[0]] * 10 + [losses[10]] * 8, abs=2e-4), (
        "ours, a plain loop and nanoGPT's begin alike"
    )
