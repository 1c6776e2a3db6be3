"""Rounds that the policy ends early or lets decay, whole and killed at the moments that such a decision adds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_killed import dies, found, kill_at_call
from tiny import recipe_tree

from inheritune import run
from inheritune.runs import rounds
from inheritune.training import checkpoint

KINDS = {
    "grows": {"match": {"margin": 1e-6}},
    "decays": {"match": {"margin": 1.0}, "training": {"schedule": "wsd", "decay_share": 0.1}},
}


@pytest.fixture(scope="module")
def recipes(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Rounds of 30 steps, evaluated at every third."""
    folder, paths = tmp_path_factory.mktemp("within"), {}
    for kind, changes in KINDS.items():
        tree = recipe_tree(gpt2, corpus / "words.jsonl")
        for section, values in changes.items():
            tree[section] |= values
        tree["training"] |= {"tokens": 30 * 256}
        tree["growth"] |= {"max_depth": 4}
        paths[kind] = str(folder / f"{kind}.yaml")
        Path(paths[kind]).write_text(yaml.safe_dump(tree))
    return paths


@pytest.fixture(scope="module")
def whole(recipes: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind) / "out"
            run(recipes[kind], out=str(folders[kind]))
        return folders[kind]

    return of


def result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


def test_a_doomed_round_is_left_for_a_deeper_target(whole: Callable[[str], Path]) -> None:
    told = result(whole("grows"))
    assert told["rounds"][0]["steps"] < 30 and told["rounds"][0]["depth"] == 2
    assert told["decisions"][1]["action"] == "grow" and told["decisions"][1]["reason"].endswith(" now")
    assert "forecast gap" in told["decisions"][1]["reason"]


def test_rate_falls_early_and_the_round_ends_with_it(whole: Callable[[str], Path]) -> None:
    told, rows = result(whole("decays")), (whole("decays") / "metrics.jsonl").read_text().splitlines()
    steps = [row for row in map(json.loads, rows) if row["kind"] == "step"]
    ended = told["rounds"][0]["steps"]
    assert told["outcome"] == "matched" and len(steps) == ended < 30
    assert [decision["action"] for decision in told["decisions"]] == ["inherit", "decay", "stop"]
    rates = [row["lr"] for row in steps]
    assert rates[: ended - 2] == [rates[0]] * (ended - 2), "the rate stands until its fall"
    assert rates[-2:] == pytest.approx([rates[0] * 2 / 3, rates[0] / 3])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("moment", ["between training and what follows", "in the midst of a checkpoint"])
def test_killed_and_continued_to_the_same_bits(
    kind: str, moment: str, recipes: dict[str, str], whole: Callable[[str], Path], tmp_path: Path
) -> None:
    def act(patch: pytest.MonkeyPatch) -> None:
        if moment.startswith("between"):
            kill_at_call(patch, rounds, "train_to_end", 1, after=True)
        else:
            kill_at_call(patch, checkpoint, "save_file", 7)

    out = tmp_path / "out"
    dies(act, recipes[kind], out)
    run(recipes[kind], out=str(out))
    assert found(out) == found(whole(kind))
