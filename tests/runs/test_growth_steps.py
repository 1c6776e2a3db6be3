"""A growth step in a run: the losses on both sides of it and the learning rate at the join, told once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from shell import command


@pytest.mark.parametrize("new", ["identity", "random"])
def test_a_growth_step_tells_its_losses_once(
    new: str, tree: dict[str, Any], write_recipe: Callable[[dict[str, Any]], str], tmp_path: Path
) -> None:
    """A block that adds nothing changes no loss; a random one does."""
    tree["growth"]["new_blocks"] = new
    recipe, out = write_recipe(tree), tmp_path / "out"
    for _ in range(2):  # the second time, the finished run is read back
        assert command("run", recipe, "--out", str(out), "--quiet").code == 0
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    (step,) = [row for row in rows if row["kind"] == "growth"]
    rates = {row["round"]: row["lr"] for row in reversed(rows) if row["kind"] == "step"}
    last = [row["lr"] for row in rows if row["kind"] == "step" and row["round"] == 1][-1]
    assert (step["round"], step["from"], step["to"], step["new_blocks"]) == (2, 2, 3, new)
    assert (step["lr_before"], step["lr"]) == (last, rates[2])
    validated = [row["val_loss"] for row in rows if row["kind"] == "validation" and row["round"] == 1]
    assert step["loss_before"] == validated[-1]
    assert (abs(step["loss_after"] - step["loss_before"]) < 1e-6) == (new == "identity")
