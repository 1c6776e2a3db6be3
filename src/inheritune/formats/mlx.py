"""A model folder in MLX's format, by mlx-lm's own converter."""

import shutil
import subprocess
from pathlib import Path

from inheritune.errors import ModelError, last_line

_TOOL = "mlx_lm.convert"


def require_mlx() -> str:
    """mlx-lm's converter; raises ModelError where it is not here."""
    tool = shutil.which(_TOOL)
    if tool is None:
        raise ModelError("mlx-lm's converter is not here: pip install mlx-lm, and have mlx_lm.convert on PATH.")
    return tool


def make_mlx(folder: Path, out: Path) -> None:
    """Convert `folder` into the folder `out`, which is empty or not there; raises ModelError where the converter does not take the model."""
    if out.exists():
        out.rmdir()  # the converter makes it, and refuses one that is there
    command = [require_mlx(), "--hf-path", str(folder), "--mlx-path", str(out)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if ended.returncode != 0 or not out.is_dir():
        raise ModelError(f"mlx-lm's converter does not take {folder}: {last_line(ended.stderr) or 'it says nothing'}")
