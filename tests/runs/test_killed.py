"""Runs that die at some moment and are continued: the same bits as a run that was never stopped."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import command

from inheritune import run
from inheritune.records.rows import MetricsRow, StepRow
from inheritune.training import checkpoint
from inheritune.training.metrics import Metrics

RUN, LAB = sys.modules["inheritune.runs.run"], sys.modules["inheritune.runs.lab"]
ROUNDS, TARGETS = sys.modules["inheritune.runs.rounds"], sys.modules["inheritune.runs.targets"]
BEGINNINGS = sys.modules["inheritune.evaluation.beginnings"]
CONTRASTS = sys.modules["inheritune.diagnosis.contrasts"]
CUTS, GREEDY = sys.modules["inheritune.diagnosis.cuts"], sys.modules["inheritune.choosing.greedy"]
HEAL = sys.modules["inheritune.surgery.heal"]


@pytest.fixture
def recipe(tree: dict[str, Any], tmp_path: Path) -> str:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return str(tmp_path / "recipe.yaml")


@pytest.fixture(scope="module")
def whole(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from tiny import recipe_tree

    folder = tmp_path_factory.mktemp("whole")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_tree(gpt2, corpus / "words.jsonl")))
    run(str(folder / "recipe.yaml"), out=str(folder / "out"))
    return found(folder / "out")


def found(folder: Path) -> dict[str, Any]:
    """What must be the same: all that a run leaves, but for clocks."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        for clock in ("tokens_per_second", "mfu", "memory", "training_seconds", "seal"):
            row.pop(clock, None)
        row.get("cost", {}).pop("seconds", None)
    result = json.loads((folder / "result.json").read_text())
    kept = {key: result[key] for key in ("outcome", "message", "reference", "target", "decisions", "margin")}
    weights = {name: (folder / "model" / name).read_bytes() for name in ("model.safetensors", "config.json")}
    spent = {phase: (cost["tokens"], cost["flops"]) for phase, cost in result["ledger"]["phases"].items()}
    return {"rows": rows, "result": kept, "spent": spent, **weights}


def dies(act: Callable[[pytest.MonkeyPatch], None], recipe: str, out: Path) -> None:
    """Run in a forked process, patched by `act` so that it kills itself; assert that it did."""
    child = os.fork()
    if child == 0:
        try:
            act(pytest.MonkeyPatch())
            run(recipe, out=str(out))
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "it did not come to the moment"


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at_call(patch: pytest.MonkeyPatch, place: Any, name: str, number: int, after: bool = False) -> None:
    """Die at (or just after) the `number`th call of a function."""
    original, calls = getattr(place, name), []

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == number and not after:
            kill()
        given = original(*arguments, **options)
        if len(calls) == number:
            kill()
        return given

    patch.setattr(place, name, wrapped)


MOMENTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "measuring": lambda patch: kill_at_call(patch, LAB, "diagnose", 1, after=True),
    "training": lambda patch: kill_at_call(patch, Metrics, "add", 7),
    "training, in the midst of a checkpoint": lambda patch: kill_at_call(patch, checkpoint, "save_file", 3),
    "reading on": lambda patch: kill_at_call(patch, ROUNDS, "read_on", 1, after=True),
    "between training and comparing": lambda patch: kill_at_call(patch, LAB.FolderLab, "compare", 1),
    "growing": lambda patch: kill_at_call(patch, TARGETS, "growth", 1, after=True),
    "growing, in the midst of its first checkpoint": lambda patch: kill_at_call(patch, checkpoint, "save_file", 5),
    "training the grown": lambda patch: kill_at_call(patch, checkpoint, "save_file", 7),
    "saving": lambda patch: kill_at_call(patch, RUN, "model_card", 1),
    "reporting": lambda patch: kill_at_call(patch, RUN, "write_report", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_continued(moment: str, recipe: str, whole: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    dies(MOMENTS[moment], recipe, out)
    assert not (out / "report.html").exists()
    run(recipe, out=str(out))
    after = found(out)
    for key in whole:
        assert after[key] == whole[key], key
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


# Where a run dies, at which call; then which calls are counted, and how many of them the continued run is spared (None: all).
KEPT: dict[str, tuple[tuple[Any, str], int, tuple[Any, str], int | None]] = {
    "asking for the begin of text": ((BEGINNINGS, "token_losses"), 3, (BEGINNINGS, "token_losses"), 2),
    "measuring cuts": ((CUTS.Loss, "of"), 4, (CUTS.Loss, "of"), 3),
    "measured untrained weights": ((CUTS.Loss, "of"), 1, (CONTRASTS, "fresh"), None),
    "choosing": ((GREEDY, "_cheapest"), 2, (GREEDY, "_cheapest"), 1),
    "repairing": ((HEAL, "refit"), 1, (HEAL, "run_until"), None),
}


def counted(patch: pytest.MonkeyPatch, place: Any, name: str) -> list[int]:
    """Grows with each call of a function."""
    original, calls = getattr(place, name), list[int]()
    patch.setattr(place, name, lambda *given, **how: calls.append(1) or original(*given, **how))
    return calls


@pytest.fixture(scope="module")
def healed(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run of one round that is repaired, and how often each of the functions was called."""
    from tiny import recipe_tree

    folder, tree = tmp_path_factory.mktemp("healed"), recipe_tree(gpt2, corpus / "words.jsonl")
    tree["choice"]["heal"], tree["growth"] = True, {"start": 2, "max_depth": 2}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    with pytest.MonkeyPatch.context() as patch:
        calls = {moment: counted(patch, *KEPT[moment][2]) for moment in KEPT}
        run(str(folder / "recipe.yaml"), out=str(folder / "out"))
    return {
        "recipe": str(folder / "recipe.yaml"),
        "calls": {moment: len(made) for moment, made in calls.items()},
        "found": found(folder / "out"),
    }


@pytest.mark.parametrize("moment", KEPT)
def test_what_was_done_before_a_death_is_not_done_again(
    moment: str, healed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place, name), number, watched, saved = KEPT[moment]
    out = tmp_path / "out"
    dies(lambda patch: kill_at_call(patch, place, name, number), healed["recipe"], out)
    calls, total = counted(monkeypatch, *watched), healed["calls"][moment]
    run(healed["recipe"], out=str(out))
    assert len(calls) == total - (total if saved is None else saved) < total
    assert found(out) == healed["found"]
    assert not {
        "begin.jsonl",
        "reference.jsonl",
        "maps.jsonl",
        "contrasts.jsonl",
        "cuts.jsonl",
        "removals.jsonl",
        "repair",
    } & {path.name for path in out.iterdir()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_asked_to_stop_while_training(
    number: signal.Signals,
    code: int,
    recipe: str,
    whole: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The step is finished and saved, so that nothing at all is lost."""
    original = Metrics.add

    def add(metrics: Metrics, row: MetricsRow) -> None:
        original(metrics, row)
        if isinstance(row, StepRow) and row.step == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(Metrics, "add", add)
    ended = command("run", recipe, "--out", str(tmp_path / "out"))
    assert ended.code == code and ended.err.count("\n") == 1
    assert "stopped after step 3" in ended.err and f"inheritune run {tmp_path / 'out/config.yaml'} --out" in ended.err
    monkeypatch.undo()
    assert checkpoint.latest(tmp_path / "out" / "rounds" / "01-2-blocks" / "checkpoints").name == "step-0000003"
    assert command("run", recipe, "--out", str(tmp_path / "out")).code == 0
    after = found(tmp_path / "out")
    assert all(after[key] == whole[key] for key in whole)


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
def test_asked_to_stop_while_measuring(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LAB, "diagnose", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    ended = command("run", recipe, "--out", str(tmp_path / "out"))
    assert ended.code == 130 and "Traceback" not in ended.err
    monkeypatch.undo()
    assert command("run", recipe, "--out", str(tmp_path / "out")).code == 0
