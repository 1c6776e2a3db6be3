import errno
import json
import math
import os
import shutil
import threading
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds import BATCH, KINDS, LENGTH, batches, train_round
from tiny import untrained_model
from torch import nn

from inheritune.data.batches import Batches
from inheritune.decoder.costs import forward_flops_per_token
from inheritune.disk.files import digest
from inheritune.errors import OutputError, TrainingError
from inheritune.records.rows import StepDone
from inheritune.records.stages import Position
from inheritune.training import checkpoint, loop


def bits(model: nn.Module) -> dict[str, bytes]:
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def test_trains_on_the_batches_in_order_and_counts_what_it_does(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    evaluated: list[int] = []
    model, position = train_round(
        tmp_path, observe=rows.append, evaluate=lambda model, position: evaluated.append(position.step)
    )
    assert [row["step"] for row in rows] == list(range(1, 9)) and evaluated == [3, 6]
    assert position.tokens == 8 * BATCH * LENGTH == rows[-1]["tokens"]
    assert position.flops == position.tokens * 3 * forward_flops_per_token(model, LENGTH)
    assert [place.name for place in sorted(tmp_path.iterdir())] == ["step-0000006", "step-0000008"]


def test_a_step_asks_for_what_its_batch_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = batches()._parts[0].tokens
    own = Batches(replace(row, asked=row.ids % 3 == 0), 0, BATCH, LENGTH)
    monkeypatch.setattr("rounds.batches", lambda: own)
    rows: list[dict[str, Any]] = []
    train_round(tmp_path, untrained_model("gpt2"), observe=rows.append, tokens=BATCH * LENGTH)
    batch = torch.from_numpy(own[0])
    labels = batch[:, 1:].masked_fill(batch[:, 1:] % 3 != 0, -100)
    logits = untrained_model("gpt2")(batch[:, :-1]).logits
    wanted = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert rows[0]["loss"] == pytest.approx(wanted.item(), rel=1e-5) and rows[0]["tokens"] == BATCH * LENGTH


def test_the_first_step_of_each_process_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest checkpoint gone, the round goes on from the one before: after step 6, as if its process had died there."""
    told: list[tuple[int, bool]] = []

    def noting(**values: Any) -> StepDone:
        told.append((values["step"], values["first"]))
        return StepDone(**values)

    monkeypatch.setattr(loop, "StepDone", noting)
    train_round(tmp_path)
    assert told == [(step, step == 1) for step in range(1, 9)]
    told.clear()
    shutil.rmtree(tmp_path / "step-0000008")
    train_round(tmp_path)
    assert told == [(7, True), (8, False)]


def test_learns_what_can_be_learnt(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    train_round(tmp_path, untrained_model("gpt2"), observe=rows.append, tokens=40 * BATCH * LENGTH, peak_lr=3e-2)
    assert rows[0]["loss"] == pytest.approx(math.log(320), abs=0.1)
    assert math.log(KINDS) - 0.1 < rows[-1]["loss"] < math.log(KINDS) + 0.2


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_same_seed_gives_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    first, _ = train_round(tmp_path / "a", optimizer=optimizer)
    second, _ = train_round(tmp_path / "b", optimizer=optimizer)
    assert bits(first) == bits(second)


class Stopped(Exception):
    pass


def stop_after(step: int, rows: list[dict[str, Any]]) -> Any:
    def observe(row: dict[str, Any]) -> None:
        if row["step"] == step:
            raise Stopped
        rows.append(row)

    return observe


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_continued_round_ends_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    whole, before = train_round(tmp_path / "whole", optimizer=optimizer)
    rows: list[dict[str, Any]] = []
    with pytest.raises(Stopped):
        train_round(tmp_path / "cut", observe=stop_after(6, rows), optimizer=optimizer)
    torch.manual_seed(99)
    resumed: list[int] = []
    model, after = train_round(
        tmp_path / "cut",
        observe=rows.append,
        resume=lambda position: resumed.append(position.step),
        optimizer=optimizer,
    )
    assert resumed == [4] and [row["step"] for row in rows] == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert bits(model) == bits(whole)
    assert (after.step, after.tokens, after.flops) == (before.step, before.tokens, before.flops)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """The checkpoints of a whole round, and the weights at its end."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, bits(train_round(folder)[0])


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing", "no state", "half state"])
def test_damaged_newest_checkpoint_is_passed_over(
    tmp_path: Path, finished: tuple[Path, dict[str, bytes]], damage: str
) -> None:
    checkpoints, whole = finished
    shutil.copytree(checkpoints, tmp_path / "cut")
    newest = tmp_path / "cut" / "step-0000008"
    weights, state = newest / "model.safetensors", newest / "state.json"
    content = weights.read_bytes()
    match damage:
        case "truncated":
            weights.write_bytes(content[: len(content) // 2])
        case "changed":
            weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "missing":
            (newest / "optimizer.safetensors").unlink()
        case "no state":
            state.unlink()
        case "half state":
            state.write_text(state.read_text()[:20])
    resumed: list[int] = []
    said: list[str] = []
    model, _ = train_round(tmp_path / "cut", resume=lambda position: resumed.append(position.step), say=said.append)
    assert resumed == [6] and bits(model) == whole
    assert len(said) == 1 and str(newest) in said[0] and "damaged" in said[0]


def test_finished_round_is_not_trained_again(tmp_path: Path) -> None:
    whole, before = train_round(tmp_path)
    model, after = train_round(tmp_path, observe=stop_after(0, []))
    assert bits(model) == bits(whole) and after == before


def test_half_written_checkpoint_is_none(tmp_path: Path) -> None:
    train_round(tmp_path)
    shutil.copytree(tmp_path / "step-0000008", tmp_path / ".step-0000009.inheritune" / "new")
    assert checkpoint.latest(tmp_path) == tmp_path / "step-0000008"


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads in which files of checkpoints were hashed."""
    threads: list[threading.Thread] = []

    def noted(path: Path) -> str:
        threads.append(threading.current_thread())
        return digest(path)

    monkeypatch.setattr(checkpoint, "digest", noted)
    return threads


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_training_goes_on_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashing: list[threading.Thread]
) -> None:
    """The first one is not moved into place before the step after it, and holds what it would hold without waiting."""
    store, went_on, names = checkpoint._describe, threading.Event(), list[str]()

    def late(made: Path, position: Position) -> None:
        assert went_on.wait(60)
        store(made, position)

    def observe(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            names.extend(place.name for place in tmp_path.glob("beside/step-*"))
            went_on.set()

    monkeypatch.setattr(checkpoint, "_describe", late)
    train_round(tmp_path / "beside", observe=observe, checkpoints_kept=9)
    assert not names and threading.main_thread() not in hashing
    monkeypatch.setattr(checkpoint, "_describe", store)
    monkeypatch.setattr(checkpoint, "COPY_ROOM", 1 << 60)
    hashing.clear()
    train_round(tmp_path / "waiting", checkpoints_kept=9)
    assert set(hashing) == {threading.main_thread()}, "without room for a copy training waits"
    assert files(tmp_path / "beside") == files(tmp_path / "waiting") and len(files(tmp_path / "beside")) == 8


def test_what_the_disk_refuses_beside_the_training_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = checkpoint._describe

    def full(made: Path, position: Position) -> None:
        if position.step == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(made))
        store(made, position)

    monkeypatch.setattr(checkpoint, "_describe", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*step-0000004'"):
        train_round(tmp_path)
    assert [place.name for place in tmp_path.iterdir()] == ["step-0000002"]


def test_a_checkpoint_is_hashed_once_until_it_changes(tmp_path: Path, hashing: list[threading.Thread]) -> None:
    train_round(tmp_path, tokens=2 * BATCH * LENGTH)
    place = tmp_path / "step-0000002"
    assert [checkpoint.latest(tmp_path) for _ in range(3)] == [place] * 3 and len(hashing) == 2, "as it is written"
    checkpoint._found_whole.clear()  # as in another process
    assert [checkpoint.latest(tmp_path) for _ in range(3)] == [place] * 3 and len(hashing) == 4
    content = (place / "model.safetensors").read_bytes()
    (place / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(place / "model.safetensors", (0, 0))  # a disk's clock may be too coarse to tell it from before
    with pytest.raises(OutputError, match="damaged"):
        checkpoint.latest(tmp_path)


def poison(model: nn.Module, step: int, value: float) -> Callable[[dict[str, Any]], None]:
    """From `step` on the weights are of no use."""

    def observe(row: dict[str, Any]) -> None:
        if row["step"] == step:
            with torch.no_grad():
                model.transformer.ln_f.weight.fill_(value)

    return observe


@pytest.mark.parametrize(
    ("most", "said"),
    [
        (1, r"loss is nan .* in batch 6 and in the 1 steps before .*last good checkpoint is .*step-0000004"),
        (0, r"loss is nan .* in batch 5 .training.max_skipped.*step-0000004"),
        (9, r"weights are no finite numbers after step 8 .*step-0000004"),
    ],
)
def test_losses_that_are_not_finite_stop_and_keep_the_last_good_checkpoint(
    tmp_path: Path, most: int, said: str
) -> None:
    model = untrained_model("gpt2")
    with pytest.raises(TrainingError, match=said):
        train_round(tmp_path, model, poison(model, 5, float("nan")), max_skipped=most, checkpoint_every=4)
    place = checkpoint.latest(tmp_path)
    again = untrained_model("gpt2", seed=5)
    state, position = checkpoint.load(place, again)
    assert position.step == 4 and all(torch.isfinite(tensor).all() for tensor in again.state_dict().values())
    assert all(torch.isfinite(value).all() for values in state.values() for value in values.values())


def test_one_step_without_a_finite_gradient_is_skipped_and_said(tmp_path: Path) -> None:
    """The weights stay as they are in that step alone; the rest of the round is as if it had not been drawn."""
    model, rows, said = untrained_model("gpt2"), [], []
    seen: dict[int, bytes] = {}

    def observe(row: dict[str, Any]) -> None:
        rows.append(row)
        seen[row["step"]] = model.transformer.h[0].attn.c_attn.weight.detach().numpy().tobytes()

    def spoil(module: nn.Module, inputs: Any, output: Any) -> Any:
        return output * float("inf") if len(rows) == 3 else output

    handle = model.transformer.h[1].mlp.register_forward_hook(spoil)
    train_round(tmp_path, model, observe, say=said.append)
    handle.remove()
    assert [row["step"] for row in rows if "skipped" in row] == [4] and rows[3]["loss"] is None
    assert seen[4] == seen[3] != seen[2] and seen[5] != seen[4]
    assert len(said) == 1 and "Step 4 of the round is skipped" in said[0] and "batch 3" in said[0]
    json.dumps(rows, allow_nan=False)


def test_skipped_steps_count_only_in_a_row(tmp_path: Path) -> None:
    """Three steps without a finite gradient, each between good ones, where one in a row is allowed."""
    model, rows = untrained_model("gpt2"), []

    def spoil(module: nn.Module, inputs: Any, output: Any) -> Any:
        return output * float("inf") if len(rows) in (1, 3, 5) else output

    handle = model.transformer.h[1].mlp.register_forward_hook(spoil)
    _, position = train_round(tmp_path, model, rows.append, max_skipped=1)
    handle.remove()
    assert [row["step"] for row in rows if "skipped" in row] == [2, 4, 6] and position.step == 8


def test_dropout_is_drawn_while_training_though_the_model_came_in_evaluation_mode(tmp_path: Path) -> None:
    losses = []
    for name, share in (("none", 0.0), ("some", 0.5)):
        rows: list[dict[str, Any]] = []
        train_round(tmp_path / name, untrained_model("gpt2", resid_pdrop=share).eval(), observe=rows.append)
        losses.append(rows[0]["loss"])
    assert abs(losses[0] - losses[1]) > 1e-4


def test_an_evaluation_ends_the_round_where_it_says_so_and_after_a_restart_too(tmp_path: Path) -> None:
    _, position = train_round(tmp_path, evaluate=lambda model, position: position.step == 6)
    assert position.step == 6 and position.ended
    _, again = train_round(tmp_path, observe=stop_after(7, []))
    assert again == position


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    train_round(tmp_path)
    kinds = {path.suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert kinds == {".safetensors", ".json"}


@pytest.mark.parametrize("stop", [4, 6, 8])
def test_a_round_whose_rate_fell_goes_on_from_before_the_fall(tmp_path: Path, stop: int) -> None:
    """Eight steps of which four fall, stopped before, in and after the fall, then sixteen: the bits of the sixteen at once."""
    wsd = {"schedule": "wsd", "decay_share": 0.5, "extensible": True, "checkpoints_kept": 1, "checkpoint_every": 1}
    more = {**wsd, "tokens": 16 * BATCH * LENGTH}
    whole, _ = train_round(tmp_path / "long", **more)
    with pytest.raises(Stopped) if stop < 8 else nullcontext():
        train_round(tmp_path / "cut", observe=stop_after(stop + 1, []), **wsd)
    kept = {f"step-{stop:07d}"} | ({"before-fall-0000005"} if stop > 5 else set())
    assert {path.name for path in (tmp_path / "cut").iterdir()} == kept
    resumed: list[int] = []
    with pytest.raises(Stopped):  # and killed once more soon after
        observe = stop_after(7, [])
        train_round(tmp_path / "cut", observe=observe, resume=lambda p: resumed.append(p.step), **more)
    model, _ = train_round(tmp_path / "cut", resume=lambda p: resumed.append(p.step), **more)
    assert bits(model) == bits(whole) and resumed == [min(stop, 5), 6]
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"before-fall-0000009", "step-0000016"}


@pytest.mark.parametrize(("rate", "known"), [(1e15, True), (1.0, False)])
def test_no_share_of_the_machine_above_one_is_told(tmp_path: Path, rate: float, known: bool) -> None:
    """The machine was busier while its rate was measured: what share this is nobody knows."""
    used: list[float | None] = []
    train_round(tmp_path, observe=lambda row: used.append(row["mfu"]), matrix_rate=rate)
    assert len(used) == 8 and all((share is not None and 0 <= share < 1) is known for share in used)
