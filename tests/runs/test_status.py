"""Where a run stands, stopped at every stage: against what was done, and without a trace."""

import html
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from restored import restored
from safetensors.numpy import load_file, save_file
from shell import command, refused
from test_run import content
from tiny import FAMILIES, LENGTH, recipe_tree

from inheritune.comparison.status import status
from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.config.strict_yaml import value_of
from inheritune.disk.locks import hold, is_held
from inheritune.disk.seals import bears_seal
from inheritune.errors import DataError
from inheritune.evidence.forecast import forecast
from inheritune.records.estimate import RunEstimate
from inheritune.records.gap import GapResult
from inheritune.report import words
from inheritune.report.plan_words import in_two_lines
from inheritune.runs.status import RunStatus, run_status
from inheritune.runs.status_words import live_view, loss_plot
from inheritune.training.loop import _Training

Write = Callable[[dict[str, Any]], str]
Stop = Callable[[str, int], Path]


@pytest.fixture
def stopped(tree: dict[str, Any], write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stop:
    """The folder of a tiny run that Ctrl-C ended where something is called the given time."""
    out = tmp_path / "out"

    def stop(where: str, call: int = 1) -> Path:
        recipe, calls = write_recipe(tree), iter(range(1, 1000))
        with monkeypatch.context() as patch:
            name = where.rpartition(".")[2]
            module = sys.modules[where.rpartition(".")[0]]
            before = getattr(module, name)

            def once_more(*given: Any, **named: Any) -> Any:
                if next(calls) == call:
                    raise KeyboardInterrupt
                return before(*given, **named)

            patch.setattr(module, name, once_more)
            ended = command("run", recipe, "--out", str(out), "--quiet")
        assert ended.code == 130
        assert ended.err.startswith("inheritune: stopped: this goes on from what is kept: inheritune run ")
        assert ended.err.splitlines() == [ended.err.removesuffix("\n")] and ended.err.endswith(
            f"config.yaml --out {out}\n"
        )
        return out

    return stop


@pytest.mark.parametrize(
    ("where", "call", "stage"),
    [
        ("inheritune.runs.bench.compare_beginnings", 1, "reference and text"),
        ("inheritune.runs.bench.document_losses", 1, "the reference's loss on the validation documents"),
        ("inheritune.runs.lab.diagnose", 1, "diagnosis"),
        ("inheritune.choosing.greedy.by_score", 1, "choice of blocks: greedy"),
        ("inheritune.runs.planning.Stack", 1, "losses of untrained cuts"),
        ("inheritune.runs.targets.prove", 1, "the first target: cut, proof and repair"),
        ("inheritune.runs.rounds.train_to_end", 1, "round 1, before its first step"),
        ("inheritune.runs.targets.prove", 2, "after round 1: growing, controls or writing the model"),
        ("inheritune.runs.run.write_model", 1, "after round 2: growing, controls or writing the model"),
    ],
)
def test_each_stage_is_told(stopped: Stop, where: str, call: int, stage: str) -> None:
    folder = stopped(where, call)
    before = content(folder)
    found = status(folder)
    assert (found.state, found.stage.name, found.kind) == ("stopped", stage, "run")
    assert content(folder) == before
    assert found.goes_on == f"inheritune run {folder}/config.yaml --out {folder}"


@pytest.mark.parametrize(
    ("where", "call", "what"),
    [
        ("inheritune.diagnosis.diagnose.Contrasts", 1, "The diagnosis"),
        ("inheritune.choosing.greedy._cheapest", 3, "The choice"),
    ],
)
def test_a_stage_says_that_it_goes_on(stopped: Stop, where: str, call: int, what: str) -> None:
    folder = stopped(where, call)
    ended = command("run", f"{folder}/config.yaml", "--out", str(folder), "--set", "limits.max_rounds=1")
    assert ended.code == 0 and ended.out.count(f"  {what} goes on from what was kept of it\n") == 1


def test_a_choice_tells_how_many_blocks_it_has_left_out(stopped: Stop) -> None:
    """Of five blocks two are to stay; the cheapest of the second search is the second that ends."""
    found = status(stopped("inheritune.choosing.greedy._cheapest", 3)).stage
    assert (found.done, found.total, found.unit) == (2, 3, "block left out")


@pytest.fixture(scope="module")
def interrupted(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that SIGINT stopped after the fourth step of its second round, the tenth in all, on a machine of a known rate.

    Of one that was measured on a busier machine no share would be told.
    """
    steps, step, folder = iter(range(1, 100)), _Training._step, tmp_path_factory.mktemp("interrupted")
    recipe, out = folder / "recipe.yaml", folder / "out"

    def counted(self: _Training) -> None:
        step(self)
        if next(steps) == 10:
            os.kill(os.getpid(), signal.SIGINT)

    recipe.write_text(yaml.safe_dump(recipe_tree(gpt2, corpus / "words.jsonl")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_Training, "_step", counted)
        patch.setattr("inheritune.runtime.gauge.matrix_rate", lambda precision, on: 1e15)
        ended = command("run", str(recipe), "--out", str(out), "--quiet")
    assert ended.code == 130 and "stopped after step 4 of the round" in ended.err
    return out


@pytest.fixture
def in_round_two(interrupted: Path, tmp_path: Path) -> Iterator[Path]:
    """That run, which may be changed; its recipe stands beside it."""
    with restored(interrupted, tmp_path / "aside") as folder:
        yield folder


def test_a_round_is_told_as_its_log_has_it(in_round_two: Path) -> None:
    found, rows = status(in_round_two), [json.loads(line) for line in (in_round_two / "metrics.jsonl").open()]
    looks = [row for row in rows if row["kind"] == "validation"]
    assert (found.stage.name, found.stage.done, found.stage.total) == ("round 2", 4, 6)
    model = found.model
    assert model is not None and model.gap is not None and model.forecast is not None
    assert (model.depth, len(model.blocks or []), model.val_loss) == (3, 3, looks[-1]["val_loss"])
    assert model.gap.model_dump() == looks[-1]["gap"]
    rate = np.median([row["tokens_per_second"] for row in rows if row["kind"] == "step" and row["round"] == 2])
    assert model.seconds_left == pytest.approx(2 * 256 / rate)
    cosine = [1e-4 * (1 + np.cos(np.pi * step / 6)) / 2 for step in range(7)]
    wanted = forecast(
        [3], [looks[2]["gap"]["mean"]], 6, rate=lambda step: cosine[step], confidence=0.995,
        reference=([3, 6], [look["gap"]["mean"] for look in looks[:2]]),
    )  # fmt: skip
    assert (model.forecast.mean, model.forecast.low, model.forecast.high) == pytest.approx(
        (wanted.mean, wanted.low, wanted.high)
    )


def test_the_page_of_an_unfinished_run_shows_what_is_there(in_round_two: Path) -> None:
    """Where it stands as `status` says it, its plan, and every look of the log with its interval."""
    assert command("report", str(in_round_two)).code == 0
    page = html.unescape((in_round_two / "report.html").read_text())
    said = command("status", str(in_round_two)).out
    assert all(line.strip() in page for line in said.splitlines()) and "goes on with: inheritune run " in page
    assert all(line in page for line in in_two_lines(RunEstimate.load(in_round_two / "plan.json")))
    rows = [json.loads(line) for line in (in_round_two / "metrics.jsonl").read_text().splitlines()]
    looks = [row for row in rows if row["kind"] == "validation"]
    assert len(looks) == 3
    for look in looks:
        assert f'data-label="Loss">{look["val_loss"]:.4f}<' in page
        assert f'data-label="Gap">{words.interval(GapResult(**look["gap"]))}<' in page


@pytest.mark.parametrize(
    ("state", "said"), [("stopped", "The run was stopped in round 2"), ("going on", "The run is going on in round 2")]
)
def test_the_page_of_an_unfinished_run_says_in_a_sentence_whether_it_goes_on(
    in_round_two: Path, state: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inheritune.runs.status.working", lambda _: state)
    assert command("report", str(in_round_two)).code == 0
    page = (in_round_two / "report.html").read_text()
    assert said in page and "or was" not in page
    assert ("Running the same command again continues from here" in page) == (state == "stopped")


def test_the_plan_that_is_told_stands_in_the_folder_before_the_text_is_read(
    tree: dict[str, Any], write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the folder is bound it has a seal, like all else; a text that is of no use leaves no folder behind."""
    recipe, out = write_recipe(tree), tmp_path / "out"
    told = list[RunEstimate]()

    def reading(*_: object) -> None:
        told.append(RunEstimate.load(out / "plan.json"))
        raise DataError("no use")

    with monkeypatch.context() as patch:
        patch.setattr("inheritune.runs.bench.texts_of", reading)
        assert refused("run", recipe, "--out", str(out), "--quiet").endswith("no use")
    assert told and not out.exists()
    with monkeypatch.context() as patch:
        patch.setattr("inheritune.runs.bench.texts_of", lambda *_: signal.raise_signal(signal.SIGINT))
        assert command("run", recipe, "--out", str(out), "--quiet").code == 130
    assert not bears_seal((out / "plan.json").read_bytes())
    with monkeypatch.context() as patch:
        patch.setattr("inheritune.runs.run.carry_out", lambda lab: signal.raise_signal(signal.SIGINT))
        assert command("run", recipe, "--out", str(out), "--quiet").code == 130
    assert bears_seal((out / "plan.json").read_bytes()) and (out / "made_of.json").exists()


def test_the_command_that_is_told_goes_on_to_the_same_bits(in_round_two: Path, tmp_path: Path) -> None:
    goes_on = status(in_round_two).goes_on
    assert goes_on is not None
    ended = command(*shlex.split(goes_on)[1:])
    assert ended.code == 0 and ended.out.count("  Goes on after step 4 of 6\n") == 1 == ended.out.count("Goes on after")
    whole = tmp_path / "whole"
    assert command("run", str(in_round_two.parent / "recipe.yaml"), "--out", str(whole), "--quiet").code == 0
    weights = "model/model.safetensors"
    assert (in_round_two / weights).read_bytes() == (whole / weights).read_bytes()


def test_a_finished_run_says_so_at_once_and_changes_nothing(
    tree: dict[str, Any], write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = write_recipe(tree), tmp_path / "out"
    assert command("run", recipe, "--out", str(out), "--quiet").code == 0
    before = content(out)
    monkeypatch.setattr("inheritune.runs.run.carry_out", lambda lab: pytest.fail("it is carried out again"))
    monkeypatch.setattr("inheritune.runs.run.load_reference", lambda *_: pytest.fail("weights are loaded"))
    again = command("run", recipe, "--out", str(out))
    message = json.loads(before["result.json"])["message"]
    assert again.code == 0 and again.out.replace("\n", " ").startswith(f"This run has ended: {message}")
    assert content(out) == before
    found = status(out)
    assert (found.state, found.message, found.goes_on) == ("finished", message, None)
    told = command("status", str(out)).out
    assert told == f"{out}: finished\n  {message}\n"
    monkeypatch.setattr("inheritune.runs.run.texts_of", lambda *_: signal.raise_signal(signal.SIGINT))
    stopped = command("run", recipe, "--out", str(out), "--quiet")
    said = "inheritune: stopped: this run has ended, and all of it is kept: inheritune run "
    assert stopped.code == 130 and stopped.err.startswith(said)
    assert content(out) == before


def test_a_run_has_its_folder_before_its_reference_is_loaded(
    tree: dict[str, Any], write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped there, the folder has the command that goes on; where the reference is of no use, there is none."""
    recipe, out, seen = write_recipe(tree), tmp_path / "out", list[RunStatus]()

    def loading(*_: object, **__: object) -> None:
        seen.append(status(out))
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr("inheritune.runs.run.load_reference", loading)
        stopped = command("run", recipe, "--out", str(out), "--quiet")
    now = status(out)
    assert (seen[0].stage.name, seen[0].state, now.state) == ("reference and text", "going on", "stopped")
    assert stopped.err.endswith(f": this goes on from what is kept: {now.goes_on}\n")
    broken = tmp_path / "broken"
    shutil.copytree(tree["reference"], broken)
    weights = load_file(broken / "model.safetensors")
    weights["transformer.ln_f.bias"][0] = float("nan")
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    tree["reference"] = str(broken)
    assert "NaN" in refused("run", write_recipe(tree), "--out", str(tmp_path / "other"), "--quiet")
    assert not (tmp_path / "other").exists()


def test_a_run_that_goes_on_by_other_limits_has_not_finished(
    tree: dict[str, Any], write_recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right after its limits were lifted, it is neither finished in `status` nor for the next command."""
    recipe, out = write_recipe(tree), tmp_path / "out"
    given = ("run", recipe, "--out", str(out), "--quiet", "--set")
    assert command(*given, "limits.max_rounds=1").code == 0
    with monkeypatch.context() as patch:
        patch.setattr("inheritune.runs.run.Bench", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert command(*given, "limits.max_rounds=2").code == 130
    assert status(out).state == "stopped"
    assert command(*given, "limits.max_rounds=2").code == 0
    assert len(json.loads((out / "result.json").read_text())["rounds"]) == 2 and status(out).state == "finished"


def test_a_training_without_a_reference(corpus: Path, tmp_path: Path, write_recipe: Write) -> None:
    tree: dict[str, Any] = {
        "name": "fresh",
        "model": {"model_type": "gpt2", "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, **FAMILIES["gpt2"]},
        "data": {"train": str(corpus / "words.jsonl"), "sequence_length": LENGTH, "valid_share": 0.2},
        "training": {"tokens": 512, "batch_tokens": 256, "peak_lr": 1e-2, "schedule": "wsd"},
    }
    recipe, out = write_recipe(tree), tmp_path / "out"
    assert command("train", recipe, "--out", str(out), "--quiet").code == 0
    before = content(out)
    again = command("train", recipe, "--out", str(out))
    assert again.code == 0 and again.out.startswith("This training has ended: validation loss ")
    assert content(out) == before and status(out).state == "finished"
    config = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(config.replace("tokens: 512", "tokens: 1024"))
    longer = status(out)
    assert (longer.state, longer.stage.done, longer.stage.total) == ("stopped", 2, 4)


def test_who_holds_the_folder_is_seen_without_touching_it(in_round_two: Path) -> None:
    code = "import sys, time\nfrom pathlib import Path\nfrom inheritune.disk.locks import hold\nheld = hold(Path(sys.argv[1]))\nprint(1, flush=True)\ntime.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(in_round_two)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"1\n"
        if is_held(in_round_two) is None:
            pytest.skip("this system does not say")
        assert status(in_round_two).state == "going on"
        assert hold(in_round_two) is None, "asking did not take it"
    finally:
        holder.kill()
        holder.wait()
    deadline = time.monotonic() + 10
    while is_held(in_round_two) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status(in_round_two).state == "killed"


def test_folders_that_are_none(tmp_path: Path, in_round_two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no run folder" in refused("status", str(tmp_path / "nowhere"))
    (tmp_path / "other").mkdir()
    assert "is no folder of a run" in refused("status", str(tmp_path / "other"))
    (tmp_path / "other" / "config.yaml").write_text("a: 1\n")
    assert "is no folder of a run" in refused("status", str(tmp_path / "other"))
    log = in_round_two / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"depth": 3', b'"depth": -3'))
    assert "metrics.jsonl' is damaged" in refused("status", str(in_round_two))
    (in_round_two / "config.yaml").write_text("{")
    assert "config.yaml" in refused("status", str(in_round_two))
    monkeypatch.chdir(tmp_path / "other")
    assert "no run folders in 'runs'" in refused("status")


def test_a_folder_that_cannot_be_read_keeps_no_other_untold(tmp_path: Path, in_round_two: Path) -> None:
    shutil.copytree(in_round_two, tmp_path / "older")
    (tmp_path / "older" / "result.json").write_text('{"controls": [{"name": "reference"}]}')
    ended = command("status", str(tmp_path / "older"), str(in_round_two))
    assert ended.code == 2 and ended.out == command("status", str(in_round_two)).out
    assert "damaged or of another version" in ended.err and "another folder (--out)" in ended.err


def test_no_torch_is_loaded(in_round_two: Path) -> None:
    code = "import sys; from inheritune.comparison.status import status; print(status(sys.argv[1]).stage.done, 'torch' in sys.modules)"
    asked = subprocess.run([sys.executable, "-c", code, str(in_round_two)], capture_output=True, text=True, check=True)
    assert asked.stdout == "4 False\n"


def test_a_terminal_sees_blocks_gap_and_losses_below_the_line(in_round_two: Path) -> None:
    """Of this round alone, and the same words as `status` says."""
    recipe = check(RunRecipe, dict(value_of((in_round_two / "config.yaml").read_text())))
    tree = recipe.model_dump(mode="json")
    view = live_view(lambda: run_status(in_round_two, tree).model, in_round_two / "metrics.jsonl", 5)
    said = view().splitlines()
    model = status(in_round_two).model
    assert model is not None and model.blocks is not None
    drawn = "".join("■" if block in model.blocks else "·" for block in range(5))
    assert re.fullmatch(rf"{drawn}  3 of 5 blocks, MFU \d+%, \d\.\d\d GB of memory", said[0])
    assert said[1].startswith(f"validation loss {model.val_loss:.4f} (reference {model.reference_loss:.4f}), gap ")
    (in_round_two / "metrics.jsonl").write_text('{"kind": "step", damage}\n')
    again = live_view(lambda: run_status(in_round_two, tree).model, in_round_two / "metrics.jsonl", 5)
    assert again() == "", "whoever needs the file says what is wrong with it"


def test_losses_fall_towards_the_references_line() -> None:
    assert loss_plot([4.0, 3.5, 3.0], reference=3.0) == [
        "●    4.000",
        "",
        " ●",
        "",
        "──●  3.000 reference",
    ]
    below = loss_plot([4.0, 2.0], reference=3.0)
    assert (below[0], below[2], below[4]) == ("●   4.000", "──  3.000 reference", " ●  2.000")
    assert loss_plot([3.0], 3.0)[0] == "●  3.000 reference"
    assert loss_plot([4.0, 3.0], None) == ["●   4.000", "", "", "", " ●  3.000"], "a training has no reference"
    many = loss_plot([float(1000 - number) for number in range(500)], 1.0)
    assert sum(line.count("●") for line in many) == 48
