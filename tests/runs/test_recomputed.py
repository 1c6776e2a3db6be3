"""A whole tiny run (healed, greedy, with dropout, grown once, with controls and an outside text) held against `recompute`.

With `GOLDEN=anew` in the environment its golden numbers are written anew (torch 2.13.0, CPU, one thread).
"""

import contextlib
import json
import math
import os
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import recompute
import torch
import yaml
from recompute import read, rows_of
from safetensors.torch import load_file
from tiny import recipe_tree
from transformers import AutoModelForCausalLM

import inheritune
from inheritune.config.sections import Training
from inheritune.errors import InputError
from inheritune.evaluation import samples
from inheritune.progress import Progress
from inheritune.records.entry import JsonFile
from inheritune.records.model_folder import ModelOrigin
from inheritune.records.result import Result
from inheritune.records.rows import METRICS
from inheritune.records.stages import PROFILE, Position
from inheritune.report.profile import Profile
from inheritune.runs import sampled
from inheritune.runs.rounds import RoundFolder
from inheritune.runs.run import _best
from inheritune.training.metrics import Metrics

GOLDEN = Path(__file__).parents[1] / "golden" / "tiny_run_cpu.txt"
DEPTHS, STEPS = (2, 3), 6
ROUNDS = ["01-2-blocks", "02-3-blocks"]


class Run:
    """A finished run's folder, its recipe, the text that it read, and its reference."""

    def __init__(self, folder: Path, reference: Path, corpus: Path):
        self.folder, self.out, self.reference = folder, folder / "out", folder / "reference"
        shutil.copytree(reference, self.reference)
        config = read(self.reference / "config.json")
        config |= {"resid_pdrop": 0.1, "embd_pdrop": 0.1}
        (self.reference / "config.json").write_text(json.dumps(config))
        self.recipe = recipe_tree(self.reference, corpus / "words.jsonl")
        self.recipe["data"]["outside"] = {"other": str(corpus / "words.txt")}
        self.recipe["choice"]["heal"] = self.recipe["controls"] = True
        self.recipe["diagnosis"]["watch_every"] = 4
        self.recipe["seed"] = 5
        self.recipe["match"]["confidence"] = 0.9
        self.recipe["training"] |= {
            "checkpoints_kept": 9, "micro_batch_size": 4, "warmup_tokens": 256, "clip": 0.5, "weight_decay": 0.2, "peak_lr": 1e-2,
        }  # fmt: skip
        self.training = self.recipe["training"]
        (folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe))

    def make(self) -> "Run":
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INHERITUNE_CACHE", str(self.folder / "cache"))
            patch.setattr(sampled, "NEW", samples.NEW)  # as a user's run
            inheritune.run(str(self.folder / "recipe.yaml"), out=str(self.out))
        self.result = read(self.out / "result.json")
        documents = [row[:48] for row in recompute.documents_of(self.folder / "cache", "valid")]
        self.all_documents = [row for row in documents if len(row) > 1]
        self.all_weights = np.asarray([len(row) - 1.0 for row in self.all_documents])
        self.documents, self.weights = self.all_documents[:12], self.all_weights[:12]
        self.ids = np.concatenate(recompute.documents_of(self.folder / "cache", "train"))
        return self

    def batches(self, first: int, count: int) -> list[np.ndarray]:
        return list(islice(recompute.batches(self.ids, self.recipe), first, first + count))

    def losses(self, model: Any) -> np.ndarray:
        return recompute.document_losses(model, self.documents, 32)

    def reference_losses(self) -> np.ndarray:
        """Of all documents: of those that every look reads, and of those that are read on."""
        kept = [read(self.out / name)["losses"] for name in ("reference.json", "further/1/reference.json")]
        return np.concatenate(kept)

    def checkpoint(self, place: str, step: int) -> Path:
        return self.out / place / "checkpoints" / f"step-{step:07d}"


@pytest.fixture(scope="module")
def done(gpt2: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("recomputed"), gpt2, corpus).make()


@pytest.mark.parametrize(
    ("place", "depth", "first", "steps"),
    [
        ("rounds/01-2-blocks", 2, 0, 6),
        ("rounds/02-3-blocks", 3, 6, 6),  # on the text that the first round has not read
        ("controls/reference", 5, 0, 12),  # as many tokens as the whole run
        ("controls/random", 3, 0, 12),
    ],
)
def test_every_step_is_plain_adamw_on_the_next_batch(done: Run, place: str, depth: int, first: int, steps: int) -> None:
    start, end = done.checkpoint(place, 0), done.checkpoint(place, steps)
    model = recompute.model_of(start, done.reference, depth)
    own = done.out / place / "rate.json"
    training = done.training | ({"peak_lr": read(own)["rate"]} if own.exists() else {})
    optimizer = recompute.adamw(model, training, start)
    wanted = recompute.replay(model, optimizer, done.batches(first, steps), training)
    folder = done.out if place.startswith("rounds") else done.out / place
    seen = [row for row in rows_of(folder, "step") if place.startswith("controls") or row["depth"] == depth]
    assert [row["step"] for row in seen] == list(range(first + 1, first + steps + 1))
    assert [row["loss"] for row in seen] == pytest.approx(wanted, rel=1e-5)
    ours = dict(model.named_parameters())
    for name, tensor in load_file(end / "model.safetensors").items():
        moved = torch.ones_like(tensor, dtype=torch.bool)
        if name.endswith("c_attn.bias"):  # no logit depends on that of the keys: its gradient is nothing but rounding
            moved[len(tensor) // 3 : 2 * len(tensor) // 3] = False
        torch.testing.assert_close(
            ours[name].detach()[moved], tensor[moved], rtol=1e-3, atol=0.02 * training["peak_lr"]
        )


def test_the_reference_is_trained_on_from_its_own_weights_and_stays_as_it_is(done: Run, gpt2: Path) -> None:
    own = load_file(gpt2 / "model.safetensors")
    assert all(
        torch.equal(own[name], tensor) for name, tensor in load_file(done.reference / "model.safetensors").items()
    )
    start = load_file(done.checkpoint("controls/reference", 0) / "model.safetensors")
    assert start.keys() >= own.keys() and all(torch.equal(own[name], start[name]) for name in own)
    reference = AutoModelForCausalLM.from_pretrained(done.reference)
    kept = np.asarray(read(done.out / "reference.json")["losses"])
    assert kept == pytest.approx(done.losses(reference), abs=1e-5)
    assert done.result["reference"]["val_loss"] == pytest.approx(np.average(kept, weights=done.weights), abs=1e-9)


def test_the_cut_is_the_references_blocks_but_for_what_was_healed(done: Run) -> None:
    """Only what closes the block before a gap may differ; the repair's losses are those of the models as they are kept."""
    blocks = done.result["rounds"][0]["blocks"]
    own, cut = (
        load_file(path / "model.safetensors") for path in (done.reference, done.checkpoint(f"rounds/{ROUNDS[0]}", 0))
    )
    gaps = [
        place for place, (block, after) in enumerate(zip(blocks, [*blocks[1:], 5], strict=True)) if after > block + 1
    ]
    healed = {f"transformer.h.{place}.mlp.c_proj.{kind}" for place in gaps for kind in ("weight", "bias")}
    for name, tensor in cut.items():
        _, inside, rest = name.partition("transformer.h.")
        place, _, part = rest.partition(".")
        source = f"transformer.h.{blocks[int(place)]}.{part}" if inside else name
        assert torch.equal(tensor, own[source]) != (name in healed), name
    start = read(done.out / "rounds" / ROUNDS[0] / "start.json")
    assert gaps and start["places"] == gaps
    starts = np.linspace(0, len(done.ids) - 32, 8).astype(int)
    held_BT = torch.from_numpy(done.ids[starts[-1] :][None, :32])
    for key, place in (("loss_before", None), ("loss_after", done.checkpoint(f"rounds/{ROUNDS[0]}", 0))):
        model = recompute.model_of(place or done.reference, done.reference, 2 if place else 5).eval()
        if place is None:
            model.transformer.h = torch.nn.ModuleList([model.transformer.h[block] for block in blocks])
        with torch.no_grad():
            assert start[key] == pytest.approx(model(held_BT, labels=held_BT, use_cache=False).loss.item(), abs=1e-5), (
                key
            )


def test_the_model_that_is_saved_is_the_best_rounds_last_checkpoint_and_has_its_losses(done: Run) -> None:
    best = int(np.argmin([each["gap"]["mean"] for each in done.result["rounds"]]))
    saved = load_file(done.out / "model" / "model.safetensors")
    kept = load_file(done.checkpoint(f"rounds/{ROUNDS[best]}", STEPS) / "model.safetensors")
    assert saved.keys() == kept.keys()
    assert all(torch.equal(tensor, kept[name]) for name, tensor in saved.items())
    losses = done.losses(AutoModelForCausalLM.from_pretrained(done.out / "model"))
    assert np.load(done.out / "rounds" / ROUNDS[best] / "losses.npy") == pytest.approx(losses, abs=1e-5)
    target = done.result["target"]
    assert target["val_loss"] == pytest.approx(np.average(losses, weights=done.weights), abs=1e-5)
    assert (target["depth"], target["blocks"]) == (DEPTHS[best], done.result["rounds"][best]["blocks"])


def test_gaps_are_those_of_the_documents_losses_at_the_looks_confidence(done: Run) -> None:
    """Two rounds may call a match, so that each leaves out 0.8 * 2 * 0.1 / 2, and keeps a quarter of that to read on."""
    assert (done.result["confidence"], done.result["validation"]["looks"]) == (0.9, 2)
    assert done.result["validation"]["look_confidence"] == pytest.approx(0.94)
    reference = done.reference_losses()
    validated = rows_of(done.out, "validation")
    assert [row["step"] for row in validated] == [3, 6, 9, 12]
    assert [row["end"] for row in validated] == [6, 6, 12, 12]
    for name, told, at in zip(ROUNDS, done.result["rounds"], (1, 3), strict=True):
        own, round_ = (
            np.load(done.out / "rounds" / name / "losses.npy"),
            read(done.out / "rounds" / name / "round.json"),
        )
        look = recompute.gap(own, reference[:12], done.weights, 0.94)
        for found in (told["gap"], round_["gap"], validated[at]["gap"]):
            assert_gap(found, look)
        cannot_tell = recompute.verdict(*look[1:], 1e-6) == "cannot tell"
        assert (told["further"] is not None) == cannot_tell
        if cannot_tell:
            own = np.load(done.out / "rounds" / name / "further.npy")
            look = recompute.gap(own, reference, done.all_weights, 0.98)
            assert told["further"]["val_loss"] == pytest.approx(np.average(own, weights=done.all_weights))
            assert_gap(told["further"]["gap"], look)
            assert told["further"]["val_loss"] - told["further"]["reference_loss"] == pytest.approx(look[0], abs=1e-6)
    assert [each["further"] is not None for each in done.result["rounds"]] == [True, False]


def test_what_is_read_on_is_read_by_the_rounds_last_checkpoint(done: Run) -> None:
    model = recompute.model_of(done.checkpoint(f"rounds/{ROUNDS[0]}", STEPS), done.reference, DEPTHS[0])
    losses = recompute.document_losses(model, done.all_documents, 32)
    assert np.load(done.out / "rounds" / ROUNDS[0] / "further.npy") == pytest.approx(losses, abs=1e-5)


def assert_gap(found: dict[str, Any], wanted: tuple[float, float, float]) -> None:
    assert found["verdict"] == recompute.verdict(*wanted[1:], 1e-6)
    assert [found[key] for key in ("mean", "low", "high")] == pytest.approx(wanted, rel=1e-3)


def test_an_evaluation_within_a_round_is_that_of_the_model_then(done: Run) -> None:
    """The controls are saved at every second step, and evaluated at every third: both at the sixth."""
    for place, depth in (("controls/reference", 5), ("controls/random", 3)):
        model = recompute.model_of(done.checkpoint(place, 6), done.reference, depth)
        row = next(row for row in rows_of(done.out / place, "validation") if row["step"] == 6)
        assert row["val_loss"] == pytest.approx(np.average(done.losses(model), weights=done.weights), abs=1e-5)


def test_controls_are_held_against_the_reference_too(done: Run) -> None:
    """At the recipe's own confidence: they are looked at once. The target's own documents are paired with theirs."""
    number = 1 if done.result["target"]["depth"] == 2 else 2
    target = np.load(done.out / "rounds" / ROUNDS[number - 1] / "losses.npy")
    reference = np.asarray(read(done.out / "reference.json")["losses"])
    for told in done.result["controls"]:
        place = done.out / "controls" / told["name"]
        model = recompute.model_of(done.checkpoint(f"controls/{told['name']}", 12), done.reference, told["depth"])
        losses = np.load(place / "losses.npy")
        assert losses == pytest.approx(done.losses(model), abs=1e-5)
        assert told["tokens"] == 2 * STEPS * 256
        found = [told["gap"][key] for key in ("mean", "low", "high")]
        assert found == pytest.approx(recompute.gap(losses, reference, done.weights, 0.9), rel=1e-3)
        assert_gap(told["target"], recompute.gap(target, losses, done.weights, 0.9))


def test_the_reference_is_trained_on_at_the_rate_that_is_best_after_a_short_training(done: Run) -> None:
    """Eight steps on its first batches at each rate, a third apart, with the schedule of eight steps; the best is not the grid's end."""
    kept = read(done.out / "controls" / "reference" / "rate.json")
    rates = {float(rate): loss for rate, loss in kept["losses"].items()}
    assert kept["rate"] == min(rates, key=rates.__getitem__)
    tried, peak = sorted(rates), done.training["peak_lr"]
    assert tried == pytest.approx([peak * 3.0**power for power in range(round(math.log(tried[0] / peak, 3)), 0)] + [
        peak * 3.0**power for power in range(round(math.log(tried[-1] / peak, 3)) + 1)
    ])  # fmt: skip
    assert kept["rate"] not in (tried[0], tried[-1]) or tried[-1] == pytest.approx(9 * peak)
    start, short = done.checkpoint("controls/reference", 0), done.training | {"tokens": 8 * 256, "warmup_tokens": 170}
    for rate, loss in rates.items():
        model = recompute.model_of(start, done.reference, 5)
        recompute.replay(
            model,
            recompute.adamw(model, short | {"peak_lr": rate}, start),
            done.batches(0, 8),
            short | {"peak_lr": rate},
        )
        assert loss == pytest.approx(np.average(done.losses(model), weights=done.weights), abs=1e-3)
    assert kept["tokens"] == len(rates) * (8 * 256 + int(done.weights.sum()))
    assert not (done.out / "controls" / "reference" / "rates").exists()


def test_the_outside_text_is_read_by_target_and_reference_as_they_are(done: Run) -> None:
    """After the controls were trained, of which one began as the reference itself."""
    documents = [row[:65] for row in recompute.documents_of(done.folder / "cache", "valid", outside=True)]
    weights = np.asarray([len(row) - 1.0 for row in documents])
    (text,) = done.result["outside"]
    assert (text["tokens"], text["documents"]) == (weights.sum(), len(documents))
    for key, place in (("target_loss", done.out / "model"), ("reference_loss", done.reference)):
        losses = recompute.document_losses(AutoModelForCausalLM.from_pretrained(place), documents, 64)
        assert text[key] == pytest.approx(np.average(losses, weights=weights), abs=1e-5), key


def test_a_round_sees_its_looks_in_its_own_steps(done: Run) -> None:
    for number, depth in enumerate(DEPTHS, 1):
        folder, before = done.out / "rounds" / ROUNDS[number - 1], Position(step=STEPS * (number - 1))
        round_ = RoundFolder(
            cast(Any, None), Progress(), folder, Metrics(done.out / METRICS), number=number, depth=depth,
            training=Training(**done.training), before=before,
        )  # fmt: skip
        assert [(seen.step, seen.end) for seen in round_.seen()] == [(3, STEPS), (6, STEPS)]
        assert round_.seen()[-1].gap.mean == read(folder / "round.json")["gap"]["mean"]


def test_the_best_round_is_the_one_of_the_least_gap() -> None:
    rounds = [SimpleNamespace(gap=SimpleNamespace(mean=mean)) for mean in (0.3, -0.1, 0.2)]
    assert _best(tuple(rounds)) == 2


def test_a_row_tells_what_the_rounds_before_it_did_too(done: Run) -> None:
    before = {"step": 0, "tokens": 0, "flops": 0.0}
    for number, name in enumerate(ROUNDS, 1):
        end = read(done.out / "rounds" / name / "round.json")
        rows = [row for row in rows_of(done.out, "step") if row["round"] == number]
        for index, row in enumerate(rows, 1):
            for unit, earlier in before.items():
                assert row[unit] == pytest.approx(earlier + end[unit] * index / STEPS), (name, index, unit)
        before = {unit: before[unit] + end[unit] for unit in before}


def test_the_ledger_is_the_sum_of_what_the_stages_wrote_down(done: Run) -> None:
    """Each phase from its own files, and the tokens from the recipe's numbers as well."""
    place, rounds = done.out, [done.out / "rounds" / name for name in ROUNDS]
    controls = [done.out / "controls" / name for name in ("reference", "random")]
    watched = [row["cost"] for folder in (place, *controls) for row in rows_of(folder, "watch")]
    phases = {
        "diagnosis": [read(place / "diagnosis.json"), *(row["cost"] for row in rows_of(place, "watch"))],
        "choice": [read(place / "choice.json"), read(place / "untrained.json")],
        "heal": [read(folder / "start.json") for folder in rounds],
        "training": [read(folder / "round.json") for folder in rounds],
        "validation": [
            read(place / "begin.json"),
            read(place / "reference.json"),
            read(place / "further" / "1" / "reference.json"),
            read(rounds[0] / "round.json")["further"],
            *(row["cost"] for kind in ("validation", "growth") for row in rows_of(place, kind)),
        ],
        "outside": [read(rounds[-1 if done.result["target"]["depth"] == 3 else 0] / "outside.json")],
        "samples": [read(rounds[-1 if done.result["target"]["depth"] == 3 else 0] / "samples.json")],
        "controls": [
            *(read(folder / "round.json") for folder in controls),
            read(controls[0] / "rate.json"),
            *(row["cost"] for folder in controls for kind in ("validation", "watch") for row in rows_of(folder, kind)),
        ],
    }
    ledger = done.result["ledger"]
    assert set(ledger["phases"]) == set(phases)
    for phase, spent in phases.items():
        for unit in ("tokens", "flops", "seconds"):
            assert ledger["phases"][phase][unit] == pytest.approx(sum(each[unit] for each in spent)), (phase, unit)
    for unit in ("tokens", "flops", "seconds"):
        assert ledger["total"][unit] == pytest.approx(sum(phase[unit] for phase in ledger["phases"].values()))
    read_at_once = int(done.weights.sum())
    assert ledger["phases"]["training"]["tokens"] == 2 * STEPS * 256
    asked = read(place / "begin.json")["tokens"]
    assert asked == 16 * (31 + 32), "16 rows of a sequence's length, without a begin of text and behind the end of text"
    read_on = int(done.all_weights.sum()) - read_at_once
    assert ledger["phases"]["validation"]["tokens"] == asked + (1 + 4 + 1) * read_at_once + 2 * read_on, (
        "the begin of text, the reference, four looks, the growth; the reference and the first target on what was read on"
    )
    trials = read(controls[0] / "rate.json")["tokens"]
    assert ledger["phases"]["controls"]["tokens"] == 2 * (12 * 256 + 4 * read_at_once) + trials + sum(
        row["tokens"] for row in watched[len(rows_of(place, "watch")) :]
    )


def numbers(out: Path) -> dict[str, Any]:
    """What must stay: every loss at full precision, the blocks, the tokens and FLOPs of every phase."""
    result = read(out / "result.json")
    return {
        "losses": " ".join(row["loss"].hex() for row in rows_of(out, "step")),
        "val_losses": " ".join(row["val_loss"].hex() for row in rows_of(out, "validation")),
        "blocks": " ".join(",".join(map(str, each["blocks"])) for each in result["rounds"]),
        **{
            name: f"{spent['tokens']} {spent['flops']:.0f}"
            for name, spent in sorted(result["ledger"]["phases"].items())
        },
    }


def test_numbers_are_the_golden_ones(done: Run) -> None:
    found = numbers(done.out)
    if os.environ.get("GOLDEN") == "anew":
        GOLDEN.write_text("".join(f"{name}: {value}\n" for name, value in found.items()))
    kept = dict(line.split(": ") for line in GOLDEN.read_text().splitlines())
    for name in ("losses", "val_losses"):
        wanted = [float.fromhex(number) for number in kept.pop(name).split()]
        assert [float.fromhex(number) for number in found.pop(name).split()] == pytest.approx(wanted, rel=1e-5), name
    assert found == kept


def test_every_file_has_a_record_and_a_line_in_the_docs(done: Run) -> None:
    """What is no JSON is tensors or a page for people; the model's folder is a Hugging Face one, with our own record in it."""
    told = (Path(__file__).parents[2] / "docs" / "run.md").read_text()
    files = [path for path in sorted(done.out.rglob("*")) if path.is_file() and path.name != ".lock"]
    own = [path for path in files if path.parent.name != "model"] + [done.out / "model" / ModelOrigin.NAME]
    assert len({path.name for path in own}) > 20
    for path in own:
        assert f"`{path.name}`" in told, f"{path.name} is not in docs/run.md"
        if path.name == METRICS:
            assert Metrics(path).rows()
        elif path.suffix == ".json":
            assert any(reads(kind, path) for kind in (Result, Profile, *records_of(JsonFile))), path
        else:
            assert path.suffix in (".yaml", ".npy", ".safetensors", ".html"), path


def records_of(kind: type[JsonFile]) -> list[type[JsonFile]]:
    return [each for own in kind.__subclasses__() for each in (own, *records_of(own))]


def reads(kind: Any, path: Path) -> bool:
    if path.name != getattr(kind, "NAME", {Result: "result.json", Profile: PROFILE}.get(kind)):
        return False
    with contextlib.suppress(InputError):
        return kind.load(path) is not None
    return False
