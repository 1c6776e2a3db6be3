"""A whole comparison of tiny models: its table against the cells, killed and continued, sharded and gathered."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import jsonschema
import numpy as np
import pytest
from shell import command, refused
from tiny import LENGTH

from inheritune.comparison import cell as cells
from inheritune.comparison.status import cell_standing, status
from inheritune.comparison.sweep import _Sweep, compare
from inheritune.config.loading import check, load_recipe
from inheritune.config.recipes import CompareRecipe
from inheritune.config.strict_yaml import value_of
from inheritune.errors import RecipeError
from inheritune.evidence.gap import gap
from inheritune.methods import METHODS as METHODS_OF_ALL
from inheritune.progress import Progress
from inheritune.records.comparison import Comparison, Point, schema_text
from inheritune.report.compare_figures import _KINDS
from inheritune.runs.status_words import live_view

METHODS = ["published", "random", "stacking", "half-width", "reference"]


@pytest.fixture(scope="module")
def recipe(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = {
        "name": "tiny", "reference": str(gpt2), "methods": METHODS, "depth": 3, "seeds": 2, "learning_rates": [1e-4, 2e-3],
        "diagnosis": {"sequences": 2, "length": 16},
        "data": {"train": str(corpus / "words.jsonl"), "sequence_length": LENGTH, "valid_share": 0.2,
                 "valid_documents": 12, "valid_tokens_per_document": 48},
        "training": {"tokens": 1536, "batch_tokens": 256, "micro_batch_size": 8, "evaluate_every": 2, "checkpoint_every": 2},
    }  # fmt: skip
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(json.dumps(tree))
    return str(path)


@pytest.fixture(scope="module")
def whole(recipe: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison from its start to its end, on a machine of a known rate: a share above one is not told."""
    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inheritune.runtime.gauge.matrix_rate", lambda precision, on: 1e15)
        compare(recipe, str(out))
    return out


def test_lengths_that_nobody_set_fit_the_reference_as_in_a_run(recipe: str, tmp_path: Path) -> None:
    """The tiny reference has fewer positions than the default length; one that is set by hand is refused by name."""
    tree = json.loads(Path(recipe).read_text())
    tree["training"] = {"tokens": 200_000}
    del tree["data"]["sequence_length"]
    (tmp_path / "free.yaml").write_text(json.dumps(tree))
    free = load_recipe(CompareRecipe, str(tmp_path / "free.yaml"), {})
    sweep = _Sweep(free, tmp_path, tmp_path, Progress(quiet=True))
    positions = sweep._load().positions
    assert positions and sweep.recipe.data.sequence_length == positions < free.data.sequence_length
    with pytest.raises(RecipeError, match=r"data\.sequence_length is 4096"):
        compare(str(tmp_path / "free.yaml"), str(tmp_path / "out"), data__sequence_length=4096)


def steps_of(place: Path) -> list[dict[str, Any]]:
    rows = map(json.loads, (place / "metrics.jsonl").read_text().splitlines())
    return [row for row in rows if row["kind"] == "step"]


def first_reached(curve: list[Point], loss: float) -> float | None:
    """Tokens at which a line through the validations first comes down to a loss."""
    losses, tokens = [point.val_loss for point in curve], [point.tokens for point in curve]
    at = next((at for at, own in enumerate(losses) if own <= loss), None)
    if not at:
        return None if at is None else tokens[0]
    return float(np.interp(loss, losses[at - 1 : at + 1][::-1], tokens[at - 1 : at + 1][::-1]))


def test_the_table_says_what_the_cells_say(whole: Path) -> None:
    found = Comparison.load(whole / "compare.json")
    rows = {row.method: row for row in found.rows}
    assert list(rows) == METHODS and found.missing == []
    about = json.loads((whole / "shards/1-of-1/about.json").read_text())
    for row in rows.values():
        grid = {rate: value for rate, value in row.tried.items() if value is not None}
        assert f"{row.peak_lr:g}" == min(grid, key=lambda rate: grid[rate]) and len(grid) == 2
        places = [whole / "cells" / cells.Cell(row.method, seed, row.peak_lr).name for seed in (0, 1)]
        own = [json.loads((place / "cell.json").read_text()) for place in places]
        assert row.val_loss == pytest.approx(fmean(each["val_loss"] for each in own))
        losses = np.mean([np.load(place / "losses.npy") for place in places], axis=0)
        assert row.gap.mean == pytest.approx(np.average(losses - about["losses"], weights=about["weights"]))
        against = gap(losses, about["losses"], tokens=about["weights"], confidence=0.95)
        assert (row.gap.low, row.gap.high) == pytest.approx((against.low, against.high))
        assert row.curve[-1].tokens == own[0]["tokens"] and row.cost.tokens == 1536
        batches = [steps_of(place)[0]["loss"] for place in places]
        assert batches[0] != batches[1], "another seed reads another batch first"
    goal = rows["random"].curve[-1].val_loss
    for row in rows.values():
        assert row.tokens_to_random == pytest.approx(first_reached(row.curve, goal)), row.method
    first = [row.val_loss for row in (rows["published"], rows["random"])]
    moved = rows["random"].difference
    assert moved is not None and moved.units == "seeds" and moved.low < moved.mean < moved.high
    assert moved.mean == pytest.approx(first[1] - first[0])
    assert rows["published"].difference is None and rows["reference"].depth == 5
    assert rows["stacking"].cost.training_flops < rows["random"].cost.training_flops


def test_every_form_of_the_table_holds_the_same(whole: Path) -> None:
    found = json.loads((whole / "compare.json").read_text())
    jsonschema.validate(found, json.loads(schema_text()))
    lines = list(csv.DictReader((whole / "compare.csv").open()))
    assert [float(line["val_loss"]) for line in lines] == [row["val_loss"] for row in found["rows"]]
    table = (whole / "compare.md").read_text()
    assert all(f"| {row['method']} |" in table and f"{row['val_loss']:.4f}" in table for row in found["rows"])
    drawn = sorted(path.name for path in (whole / "figures").iterdir())
    assert drawn == ["gaps.png", "loss-flops.png", "loss-tokens.png", "ranks.png", "time-to-loss.png"]


def test_every_method_has_a_place_in_the_figures_and_a_line_in_the_docs() -> None:
    assert sorted(name for names in _KINDS.values() for name in names) == sorted({*METHODS_OF_ALL} - {"reference"})
    docs = (Path(__file__).parents[2] / "docs/methods.md").read_text()
    for name, method in METHODS_OF_ALL.items():
        assert f"| `{name}` | {method.says} | {'yes' if method.needs_reference else 'no'} |" in docs


def test_the_schema_in_the_package_is_that_of_the_code() -> None:
    kept = Path(cells.__file__).parents[1] / "schemas" / "compare.schema.json"
    assert kept.read_text() == schema_text()


def test_what_takes_long_is_told(recipe: str, tmp_path: Path) -> None:
    """How many cells, the choice of blocks, and why a cell has other tokens: by its record and the recipe's."""
    out = tmp_path / "out"
    given = ("--budget", "total-flops", "--seeds", "1", "--set", "learning_rates=[0.002]", "--out", str(out))
    said = command("compare", recipe, "--methods", "inheritune,published", *given).out
    (cells_told,) = [line for line in said.splitlines() if line.startswith("At most ")]
    assert cells_told == (
        "At most 2 cells: 2 methods with 1 learning rate on the first seed; 3 of 5 blocks, sequences of"
        f" {LENGTH} tokens, equal in total-flops"
    )
    names = ("inheritune-lr0.002-seed0", "published-lr0.002-seed0")
    for number, name in enumerate(names, 1):
        assert f"\nCell {number} of 2 at most: {name}\n" in said
    assert re.search(r"\nChoice of blocks: greedy\n  \d+ of 9, ", said) and "\nRepair\n" in said
    (tokens,) = json.loads((out / "cells/inheritune-lr0.002-seed0/tokens.json").read_text())["phases"]
    assert tokens < 1536
    assert said.count(f"  {tokens:,} tokens, where training.tokens is 1,536: methods are equal in all FLOPs, ") == 1


def test_status_counts_the_cells(whole: Path, tmp_path: Path) -> None:
    done = status(whole)
    cells_there = len(list((whole / "cells").glob("*/cell.json")))
    assert (done.state, done.stage.done, done.stage.total) == ("finished", cells_there, cells_there)
    less = Path(shutil.copytree(whole, tmp_path / "less"))
    gone = next(iter(sorted(less.glob("cells/*/cell.json"))))
    gone.unlink()
    found = status(less)
    assert (found.state, found.stage.done) == ("stopped", cells_there - 1)
    assert found.stage.name == f"cells, now {gone.parent.name}"
    assert found.goes_on == f"inheritune compare {less}/shards/1-of-1/config.yaml --out {less}"
    assert found.model is None, "all its phases are trained"
    assert "is a part of a comparison" in refused("status", str(gone.parent))
    for end in gone.parent.glob("phase-*/round.json"):
        end.unlink()
    log = gone.parent / "metrics.jsonl"
    last = [
        row
        for row in map(json.loads, log.read_text().splitlines())
        if row["round"] == 1 and row["kind"] == "validation"
    ][-1]
    model = status(less).model
    assert model is not None and (model.depth, model.val_loss) == (last["depth"], last["val_loss"])
    recipe = check(CompareRecipe, dict(value_of((less / "shards/1-of-1/config.yaml").read_text())))
    shown = live_view(lambda: cell_standing(gone.parent, recipe), log)().splitlines()
    assert shown[0].startswith(f"{model.depth} blocks, MFU ") and shown[1].startswith(
        f"validation loss {model.val_loss:.4f}"
    )


def saved(losses: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, losses, **options)
    return file.getvalue()


WHOLE = saved(np.zeros(12))


@pytest.mark.parametrize(
    "content",
    [
        b"", WHOLE[:100], WHOLE[:-8], WHOLE.replace(b"(12,)", b"(9**20,)"), WHOLE.replace(b"(12,)", b"(4**30,)"),
        saved(np.zeros(11)), saved(np.full(12, np.nan)), saved(np.array([{}] * 12), allow_pickle=True), b"\x93NUMPY\x09" * 9,
    ],
    ids=["nothing", "a header", "short", "no shape", "huge", "of fewer documents", "no numbers", "a pickle", "another format"],
)  # fmt: skip
def test_a_cells_damaged_losses_are_told(content: bytes, recipe: str, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    row = Comparison.load(run / "compare.json").rows[0]
    damaged = run / "cells" / cells.Cell(row.method, 0, row.peak_lr).name / "losses.npy"
    damaged.write_bytes(content)
    said = refused("compare", recipe, "--gather", "--out", str(run))
    assert f"{str(damaged)!r} is damaged" in said and "remove its folder" in said


def without_seconds(folder: Path) -> dict[str, Any]:
    tree = json.loads((folder / "compare.json").read_text())
    for row in tree["rows"]:
        del row["cost"]["seconds"]
    return tree


def test_shards_gather_to_the_same_table(recipe: str, whole: Path, tmp_path: Path) -> None:
    half = compare(recipe, str(tmp_path / "run"), shard=(2, 2))
    assert [row.method for row in half.rows] == ["random", "half-width"] and half.missing
    compare(recipe, str(tmp_path / "run"), shard=(1, 2))
    gathered = command("compare", recipe, "--out", str(tmp_path / "run"), "--gather", "--quiet", "--json")
    assert json.loads(gathered.out) == json.loads((tmp_path / "run/compare.json").read_text())
    assert without_seconds(tmp_path / "run") == without_seconds(whole)


def test_a_killed_sweep_goes_on_to_the_same_table(
    recipe: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0

    def killed(*arguments: Any, **options: Any) -> None:
        nonlocal steps
        steps += 1
        if steps == 25:
            raise KeyboardInterrupt
        observe(*arguments, **options)

    observe = cells.RoundFolder._observe
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cells.RoundFolder, "_observe", killed)
        compare(recipe, str(tmp_path / "run"))
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/cells").glob("*/cell.json")}
    assert 0 < len(finished) < 15
    compare(recipe, str(tmp_path / "run"))
    assert without_seconds(tmp_path / "run") == without_seconds(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in finished.items())


def test_equal_flops_are_equal(recipe: str, tmp_path: Path) -> None:
    found = compare(
        recipe, str(tmp_path / "run"), methods=["random", "reference", "stacking"], budget="flops", seeds=1, learning_rates=[2e-3]
    )  # fmt: skip
    flops = {row.method: row.cost.training_flops for row in found.rows}
    batch = 256 * 3 * 2 * 320 * 24
    assert flops["reference"] == pytest.approx(flops["random"], abs=5 * batch)
    assert {row.difference.units for row in found.rows if row.difference} == {"documents"}
    assert "differences from random, paired by documents" in (tmp_path / "run/compare.md").read_text()


def test_a_method_that_cannot_be_is_named(recipe: str, references: Callable[[str], Path], tmp_path: Path) -> None:
    found = compare(
        recipe, str(tmp_path / "run"), methods=["random", "half-width"], reference=str(references("qwen3")), seeds=1,
        learning_rates=[2e-3],
    )  # fmt: skip
    assert [row.method for row in found.rows] == ["random"]
    assert [left.name for left in found.missing] == ["half-width"] and "must be even" in found.missing[0].reason


def test_wrong_input_is_said(recipe: str, tmp_path: Path) -> None:
    assert "'randm'" in refused("compare", recipe, "--methods", "randm", "--out", str(tmp_path / "a"))
    assert "i/n" in refused("compare", recipe, "--shard", "2", "--out", str(tmp_path / "a"))
    assert "3/2" in refused("compare", recipe, "--shard", "3/2", "--out", str(tmp_path / "a"))
    assert "holds ''" in refused("compare", recipe, "--methods", "", "--out", str(tmp_path / "a"))
    assert "more than once" in refused("compare", recipe, "--methods", "random, random", "--out", str(tmp_path / "a"))
    assert "5 blocks" in refused("compare", recipe, "--set", "depth=5", "--out", str(tmp_path / "a"))
    assert not list(tmp_path.glob("a/shards/*")), "the mended command finds no folder of the wrong one's"
    assert "no cells" in refused("compare", recipe, "--gather", "--out", str(tmp_path / "b"))


def test_a_folder_of_another_recipe_is_neither_gathered_nor_joined(recipe: str, whole: Path) -> None:
    kept = (whole / "compare.json").read_bytes()
    for change in (
        ["--gather", "--set", "depth=2"],
        ["--gather", "--budget", "flops"],
        ["--shard", "1/3", "--budget", "flops"],
    ):
        assert "name another --out" in refused("compare", recipe, "--out", str(whole), *change)
    assert (whole / "compare.json").read_bytes() == kept and not (whole / "shards/1-of-3").exists()


def test_distillation_is_really_there_and_paid_for(recipe: str, tmp_path: Path) -> None:
    methods = ["published", "logits-inherited", "distilbert"]
    found = compare(recipe, str(tmp_path / "run"), methods=methods, seeds=1, learning_rates=[2e-3])
    rows = {row.method: row for row in found.rows}
    assert "never" not in (tmp_path / "run/compare.md").read_text()  # `random` is not there to be reached
    assert rows["logits-inherited"].val_loss != rows["published"].val_loss
    assert rows["logits-inherited"].cost.training_flops > 1.2 * rows["published"].cost.training_flops
    for method, parts in (("logits-inherited", {"logits"}), ("distilbert", {"logits", "hidden"})):
        lines = (tmp_path / f"run/cells/{method}-lr0.002-seed0/metrics.jsonl").read_text().splitlines()
        steps = [row for row in map(json.loads, lines) if row["kind"] == "step"]
        assert all(row[part] > 0 for row in steps for part in parts)


def test_random_total_spends_what_inheritune_spends_in_all(recipe: str, tmp_path: Path) -> None:
    found = compare(
        recipe, str(tmp_path / "run"), methods=["inheritune", "random-total"], seeds=1, learning_rates=[2e-3]
    )
    ours, random = found.rows
    assert ours.cost.prepared_flops > 0 and random.cost.prepared_flops == 0
    batch = random.cost.training_flops / (random.cost.tokens / 256)
    assert random.cost.total_flops == pytest.approx(ours.cost.total_flops, abs=batch)
    assert random.cost.tokens > ours.cost.tokens
