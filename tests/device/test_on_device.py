"""What runs on an accelerator, held against the CPU: `make test DEVICE=cuda`, or `DEVICE=emulated` where there is none."""

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emulated
import numpy as np
import pytest
import torch
import yaml
from rounds import BATCH, train_round
from rounds import LENGTH as ROUND_LENGTH
from shell import command
from stopping import stopping_at
from tiny import LENGTH, in_bf16, recipe_tree, untrained_model
from torch import nn
from transformers import PreTrainedTokenizerFast

from inheritune import run
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.stack import Stack
from inheritune.diagnosis.diagnose import diagnose
from inheritune.diagnosis.rank import approximate_rank
from inheritune.errors import Interrupted
from inheritune.evaluation.token_losses import label_losses, token_losses
from inheritune.models.load import load_model
from inheritune.records.rows import StepDone
from inheritune.runs.rounds import RoundFolder
from inheritune.runtime.device import CPU, NAMED, device, make_repeatable
from inheritune.surgery.heal import heal
from inheritune.surgery.in_memory import as_map, assemble, growth, inherit
from inheritune.surgery.proof import prove
from inheritune.training.metrics import Metrics
from inheritune.training.replay import Sums, _Recorded

pytestmark = pytest.mark.device


@pytest.fixture(autouse=True)
def _little_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One learning rate tried for a control, no product timed and nothing drawn: these ask the device nothing else."""
    monkeypatch.setattr("inheritune.report.profile_figures.save_figures", lambda *_: [])
    monkeypatch.setattr("inheritune.runtime.gauge.matrix_rate", lambda precision, on: 1e10)
    monkeypatch.setattr("inheritune.runtime.gauge.bf16_slowness", lambda: 1.0)
    monkeypatch.setattr("inheritune.runs.own_rate._FIRST", (0,))
    monkeypatch.setattr("inheritune.runs.own_rate._LOWEST", 0)
    monkeypatch.setattr("inheritune.runs.own_rate._HIGHEST", 0)


# What float32 sums in another order may differ by in a loss of 3; halves round more.
CLOSE = {"fp32": 2e-5, "bf16": 2e-3}


def test_the_device_is_no_cpu_and_models_are_loaded_there(gpt2: Path) -> None:
    assert device().type != "cpu"
    assert load_model(gpt2, on=device()).device.type == device().type and load_model(gpt2).device == CPU


def test_a_device_is_as_strict_as_the_code_is_tried_for() -> None:
    """Numbers of the CPU neither meet its own nor become an array; a single one may, as on a real device."""
    own, other = torch.ones(3, device=device()), torch.ones(3)
    with pytest.raises(RuntimeError):
        own + other
    with pytest.raises((RuntimeError, TypeError)):
        np.asarray(own)
    assert (own + torch.tensor(1.0)).sum().item() == 6 and (own.cpu() + other).sum() == 6


def test_a_model_on_the_cpu_is_measured_there_beside_a_device(gpt2: Path) -> None:
    """Whatever runs a model asks the model where it is, not the machine what it has."""
    model, tokens_BT = load_model(gpt2), torch.arange(24).view(2, 12)
    profile = diagnose(model, tokens_BT, curve_sequences=2)
    labels_BT = tokens_BT[:, 1:].numpy()
    losses_BT = label_losses(model, tokens_BT[:, :-1].numpy(), labels_BT)
    assert profile.loss == pytest.approx(losses_BT.mean(), abs=1e-5)
    cut = inherit(model, [0, 2, 4])
    heal(cut, model, [0, 2, 4], tokens_BT)
    assert prove(cut).passed and {parameter.device for parameter in (*cut.parameters(), *model.parameters())} == {CPU}


def most_weights(kind: type[nn.Module], act: Callable[[], object]) -> int:
    """The most bytes of weights that stand on the device when a module of this kind is called, whoever holds them."""
    seen: list[int] = []

    def count(module: nn.Module, _: object) -> None:
        if isinstance(module, kind):
            there = (
                x.held.untyped_storage()
                for x in gc.get_objects()
                if type(x) is emulated.OnDevice and isinstance(x, nn.Parameter)
            )
            seen.append(sum({storage.data_ptr(): storage.nbytes() for storage in there}.values()))

    hook = nn.modules.module.register_module_forward_pre_hook(count)
    try:
        act()
    finally:
        hook.remove()
    return max(seen)


@pytest.mark.skipif(device().type != emulated.NAME, reason="weights are counted on the emulated device alone")
def test_one_model_at_a_time_is_on_the_device() -> None:
    """A proof, of the cut, its reference and what is loaded again, and of a grown target; a repair; and the diagnosis's untrained weights."""
    gc.freeze()  # what is older need not be looked through
    reference, tokens_BT = untrained_model("llama"), torch.arange(48).view(4, 12)
    whole = sum(parameter.nbytes for parameter in reference.parameters())
    cut, kind = assemble([reference], as_map([0, 2, 3]), on=device()), type(anatomy(reference).blocks[0])
    assert whole < 1.9 * sum(parameter.nbytes for parameter in cut.parameters())
    assert most_weights(kind, lambda: prove(cut, reference, [0, 2, 3]).require()) == whole
    before = inherit(reference, [0, 3])
    grown = growth(before, reference, [0, 3], [0, 2, 3], "inherited")
    assert most_weights(kind, lambda: prove(cut, [before, reference], grown).require()) == whole
    assert before.device == CPU
    assert most_weights(kind, lambda: heal(cut, reference, [0, 2, 3], tokens_BT)) == whole
    assert reference.device == CPU and cut.device.type == device().type
    reference.to(device())  # type: ignore[arg-type]
    cut.to(CPU)  # type: ignore[arg-type]
    assert most_weights(kind, lambda: diagnose(reference, tokens_BT, curve_sequences=2)) == whole


def test_what_a_proof_loads_again_goes_straight_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    cut, seen = untrained_model("llama").to(device()), list[str]()  # type: ignore[arg-type]
    plain = type(cut).from_pretrained

    def loading(*args: Any, **options: Any) -> Any:
        loaded = plain(*args, **options)
        seen.extend({weight.device.type for weight in loaded[0].parameters()})
        return loaded

    monkeypatch.setattr(type(cut), "from_pretrained", loading)
    assert prove(cut).passed and seen == [device().type] and cut.device.type == device().type


def test_a_gap_in_bf16_is_that_in_fp32_within_a_fifth_of_the_margin(
    references: Callable[[str], Path], texts: list[str], tokenizer: PreTrainedTokenizerFast
) -> None:
    """Of a cut to its reference, by document and by the blocks' passes that choose, and bf16 does reach the products."""
    reference = load_model(references("llama"), on=device())
    cut, rows = inherit(reference, [0, 2, 3]), [np.asarray(tokenizer(text)["input_ids"][:33]) for text in texts[:12]]
    gaps = []
    for precision in ("fp32", "bf16"):
        own, other = (np.mean(token_losses(model, rows, precision)) for model in (cut, reference))
        stack = Stack(reference, torch.tensor(np.stack(rows)), precision=precision)
        lost = stack.loss(stack.run(stack.hidden0, [0, 2, 3])) - stack.whole_losses.mean().item()
        gaps.append((own - other, lost))
    for whole, half in zip(*gaps, strict=True):
        assert 0 < abs(half - whole) < 0.002 < whole


# All that may be asked for at once, in two whole runs.
ASKED: dict[str, dict[str, Any]] = {
    "llama": {
        "controls": True,
        "training": {"precision": "fp32"},
        "growth": {"new_blocks": "copied"},
        "model_dtype": "float32",
    },
    "gpt2": {
        "training": {"tokens": 512, "precision": "bf16", "checkpoint_activations": True, "optimizer": "muon"},
        "objective": {"cross_entropy": 0.6, "logits": 0.4, "hidden": 0.1, "temperature": 2.0},
        # In bf16 a choice by losses may take other blocks of so small a model than in fp32, and then other states are held apart.
        "choice": {"method": "first"},
    },
}


@pytest.mark.parametrize(("family", "stops"), [("llama", (2, 5)), ("gpt2", ())])
def test_a_whole_run_stopped_and_continued_has_the_losses_of_the_cpu(
    family: str,
    stops: tuple[int, ...],
    references: Callable[[str], Path],
    corpus: Path,
    write_recipe: Callable[[dict[str, Any]], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Diagnosis, choice, repair, watching, growth, controls and saving, over two rounds, stopped in each of them; of a file in bf16."""
    tree = recipe_tree(in_bf16(references(family), tmp_path / "reference"), corpus / "words.jsonl")
    tree["choice"]["heal"], tree["diagnosis"]["watch_every"] = True, 3
    tree["training"] |= {"tokens": 768, "evaluate_every": 2}
    tree["data"]["outside"] = {"same": str(corpus / "words.jsonl")}
    for key, value in ASKED[family].items():
        tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
    recipe, out, told, reference_at = write_recipe(tree), tmp_path / "out", RoundFolder._observe, set[object]()

    def observe(self: RoundFolder, step: StepDone) -> None:
        reference_at.update((weight.device, weight.dtype) for weight in self.bench.reference.model.parameters())
        told(self, step)

    monkeypatch.setattr(RoundFolder, "_observe", observe)
    for step in stops:
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Metrics, "add", stopping_at(step))
            run(recipe, out=str(out))
    found = run(recipe, out=str(out))
    assert [done.depth for done in found.rounds] == [2, 3]
    assert reference_at == {(CPU, torch.bfloat16)}, (
        "it is set aside in every training; in bf16 a copy in halves teaches"
    )
    assert len(found.controls or []) == 2 * bool(tree.get("controls"))
    monkeypatch.setenv(NAMED, "cpu")
    with emulated.unused():
        run(recipe, out=str(tmp_path / "cpu"))
    assert losses(out) == pytest.approx(losses(tmp_path / "cpu"), abs=CLOSE[tree["training"]["precision"]])


@pytest.mark.skipif(device().type != emulated.NAME, reason="waits are counted on the emulated device alone")
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_step_waits_for_the_device_once(family: str, tmp_path: Path) -> None:
    """Whatever its micro-batches: what four steps wait more than two, in two micro-batches each, is twice one."""

    def waits(steps: int) -> int:
        emulated.waits.clear()
        seldom = {"evaluate_every": 100, "checkpoint_every": 100, "tokens": steps * BATCH * ROUND_LENGTH}
        train_round(tmp_path / str(steps), untrained_model(family).to(device()), **seldom)  # type: ignore[arg-type]
        return sum(emulated.waits.values())

    assert waits(4) - waits(2) == 2


@pytest.mark.skipif(device().type != emulated.NAME, reason="waits are counted on the emulated device alone")
def test_ranks_of_long_maps_wait_for_the_device_no_more_often_for_more_maps() -> None:
    maps_BHTT = torch.randn(1, 6, 224, 224, generator=torch.Generator().manual_seed(0)).tril().softmax(-1).tril()

    def waits(heads: int) -> int:
        emulated.waits.clear()
        found = approximate_rank(maps_BHTT[:, :heads].to(device()), 0.9)
        assert found.cpu().tolist() == approximate_rank(maps_BHTT[:, :heads], 0.9).tolist()
        return sum(emulated.waits.values())

    assert waits(6) == waits(2)


@pytest.mark.skipif(device().type != "cuda", reason="a CUDA GPU alone records")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_recorded_training_gives_the_same_bits_again_and_those_of_one_that_is_not(
    family: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight steps of two micro-batches each, recorded twice, and once with blocks compiled alone."""
    make_repeatable(0)
    recorded, replay = list[object](), _Recorded.replay

    def noting(self: _Recorded, *given: Any, **named: Any) -> Sums:
        recorded.append(self)
        return replay(self, *given, **named)

    monkeypatch.setattr(_Recorded, "replay", noting)
    found = []
    for name, compiled in (("one", "graph"), ("two", "graph"), ("three", "blocks")):
        model = untrained_model(family).to(device())  # type: ignore[arg-type]
        wanted = {"precision": precision, "compile": compiled, "evaluate_every": 3, "tokens": 8 * BATCH * ROUND_LENGTH}
        rows: list[dict[str, Any]] = []
        train_round(tmp_path / name, model, observe=rows.append, **wanted)
        found.append(([row["loss"] for row in rows], [weight.cpu() for weight in model.parameters()]))
    assert len(recorded) == 2 * 14 and len(set(recorded)) == 2
    for losses, weights in found[1:]:
        assert losses == found[0][0]
        assert all(map(torch.equal, weights, found[0][1]))


def losses(out: Path) -> list[float]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row.get("loss", row.get("val_loss")) for row in rows if row["kind"] in ("step", "validation")]


def test_every_command_that_runs_a_model(
    references: Callable[[str], Path], corpus: Path, tmp_path: Path, write_recipe: Callable[[dict[str, Any]], str]
) -> None:
    """diagnose, inherit --heal, prove, train, evaluate and compare end well, and leave what they are asked for."""
    reference, text = references("llama"), corpus / "words.jsonl"
    small = ("--length", "16", "--sequences", "4", "--curve-sequences", "2", "--other-length", "24", "--quiet")
    ended = command("diagnose", str(reference), "--text", str(text), "--out", str(tmp_path / "profile"), "--gradients", *small)  # fmt: skip
    assert ended.code == 0, ended
    profile = json.loads((tmp_path / "profile" / "profile.json").read_text())
    assert len(profile["layers"]) == 4 and profile["curves"] and {one["name"] for one in profile["contrasts"]} == {"untrained", "trained"}  # fmt: skip
    cut = str(tmp_path / "cut")
    ended = command("inherit", str(reference), cut, "--blocks", "0,2-3", "--heal", str(corpus / "words.txt"), "--prove", "--quiet")  # fmt: skip
    assert ended.code == 0 and "healed" in ended.out, ended
    assert (
        command("inherit", str(reference), str(tmp_path / "plain"), "--blocks", "0-1", "--no-prove", "--quiet").code
        == 0
    )
    ended = command("prove", str(tmp_path / "plain"), "--against", str(reference), "--quiet")
    assert ended.code == 0 and "so arranged" in ended.out and "FAILED" not in ended.out, ended
    ended = command("evaluate", cut, "--reference", str(reference), "--data", str(text), "--documents", "6", "--no-generation", "--json")  # fmt: skip
    assert ended.code == 0 and np.isfinite(json.loads(ended.out)["models"][0]["text"]["val_loss"]), ended
    data = {"train": str(text), "sequence_length": LENGTH, "valid_share": 0.2, "valid_documents": 6, "valid_tokens_per_document": 48}  # fmt: skip
    training = {"tokens": 1024, "batch_tokens": 256, "evaluate_every": 2, "checkpoint_every": 2}
    fresh = {"name": "fresh", "model": json.loads((reference / "config.json").read_text()), "data": data, "training": training}  # fmt: skip
    ended = command("train", write_recipe(fresh), "--out", str(tmp_path / "fresh"), "--quiet")
    assert ended.code == 0, ended
    sweep = {"name": "sweep", "reference": str(reference), "methods": ["distilbert"], "depth": 2, "diagnosis": {"sequences": 2, "length": 16}, "data": data, "training": training}  # fmt: skip
    ended = command("compare", write_recipe(sweep, "sweep.yaml"), "--out", str(tmp_path / "sweep"), "--quiet")
    assert ended.code == 0 and yaml.safe_load((tmp_path / "sweep" / "compare.json").read_text())["missing"] == [], ended
