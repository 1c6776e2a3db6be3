import json
from pathlib import Path
from typing import Any

import yaml

import inheritune


def test_a_run_with_a_teacher_tells_its_terms_and_counts_its_passes(tree: dict[str, Any], tmp_path: Path) -> None:
    """The reference is the teacher: every step's row holds the terms, and a step costs its forward pass more."""
    tree["limits"], tree["controls"] = {"max_rounds": 1}, True
    rows = {}
    for name, objective in {"plain": {}, "taught": {"cross_entropy": 0.5, "logits": 0.5, "hidden": 0.1}}.items():
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**tree, "objective": objective}))
        inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / name))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        rows[name] = [row for row in map(json.loads, lines) if row["kind"] == "step"]
    for row in rows["taught"]:
        terms = 0.5 * row["cross_entropy"] + 0.5 * row["logits"] + 0.1 * row["hidden"]
        assert abs(row["loss"] - terms) < 1e-6 and row["logits"] > 0 and row["hidden"] > 0
    assert "logits" not in rows["plain"][0]
    for name, told in {"plain": ["reference", "random"], "taught": ["reference", "reference-taught", "random"]}.items():
        controls = json.loads((tmp_path / name / "result.json").read_text())["controls"]
        assert [control["name"] for control in controls] == told
    lines = (tmp_path / "taught" / "controls" / "reference-taught" / "metrics.jsonl").read_text().splitlines()
    own = [row for row in map(json.loads, lines) if row["kind"] == "step"]
    assert abs(own[0]["logits"]) < 1e-6 < own[-1]["logits"], (
        "taught by itself as it was: nothing apart before the first step"
    )
    assert 1.3 * rows["plain"][0]["flops"] < rows["taught"][0]["flops"] < 2 * rows["plain"][0]["flops"]


def test_hidden_states_are_held_against_the_block_that_each_was_inherited_from(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    tree["limits"] = {"max_rounds": 1}
    taught = {"cross_entropy": 0.5, "logits": 0.5, "hidden": 0.1}

    def losses(name: str, **layers: Any) -> list[float]:
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**tree, "objective": taught | layers}))
        inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / name))
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [row["hidden"] for row in map(json.loads, lines) if row["kind"] == "step"]

    own = losses("own")
    blocks = json.loads((tmp_path / "own" / "result.json").read_text())["rounds"][0]["blocks"]
    depth, whole = len(blocks), 4
    share = {at: -(-(at + 1) * whole // depth) - 1 for at in range(depth)}
    assert own == losses("named", layers=dict(enumerate(blocks))) != losses("share", layers=share)
