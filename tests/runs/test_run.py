"""Whole tiny runs from the command line, of three families."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from shell import command, refused
from tiny import recipe_tree
from torch import Tensor
from torch.utils import deterministic
from transformers import AutoModelForCausalLM, AutoTokenizer

import inheritune
from inheritune.choosing.choice import Ordering
from inheritune.config.loading import check
from inheritune.config.recipes import RunRecipe
from inheritune.errors import InputError, ProofError
from inheritune.records.result import Result
from inheritune.runs import algorithm, bench, lab, targets
from inheritune.runs import run as run_module
from inheritune.runs.policy import History, Plan
from inheritune.training.kernels import settled

Runs = Callable[[str], Path]


@pytest.fixture(scope="session")
def runs(references: Callable[[str], Path], corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The folder of a family's finished run, which tests only read; `out.json` beside it is what was printed."""
    folder = tmp_path_factory.mktemp("runs")

    def finished(family: str) -> Path:
        place = folder / family
        if not place.exists():
            tree = recipe_tree(references(family), corpus / "words.jsonl")
            tree["choice"]["heal"] = family == "llama"
            tree["training"]["checkpoints_kept"] = 9
            (folder / f"{family}.yaml").write_text(yaml.safe_dump(tree))
            ended = command("run", str(folder / f"{family}.yaml"), "--out", str(place), "--json")
            assert ended.code == 0, ended
            (folder / f"{family}.json").write_text(ended.out)
            (folder / f"{family}.log").write_text(ended.err)
        return place

    return finished


def recipe_of(place: Path) -> str:
    return str(place.with_suffix(".yaml"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FAMILIES = pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3"])


@FAMILIES
def test_folder_holds_what_a_run_promises(runs: Runs, family: str) -> None:
    place = runs(family)
    for name in ("config.yaml", "metrics.jsonl", "report.html", "result.json", "model/README.md"):
        assert (place / name).stat().st_size > 0, name
    assert sorted(p.name for p in (place / "rounds").iterdir()) == ["01-2-blocks", "02-3-blocks"]
    assert not [path for path in place.rglob("*") if path.name.startswith(".")]
    recipe = check(RunRecipe, yaml.safe_load((place / "config.yaml").read_text()))
    given = check(RunRecipe, yaml.safe_load(Path(recipe_of(place)).read_text()))
    assert recipe == given.model_copy(update={"training": settled(given.training, torch.device("cpu"))})


@FAMILIES
def test_result_is_what_was_printed_and_fits_the_schema(runs: Runs, family: str) -> None:
    place = runs(family)
    printed = json.loads(place.with_suffix(".json").read_text())
    kept = json.loads((place / "result.json").read_text())
    assert printed == {**kept, "command": printed["command"]}, "another test may have run the same folder again"
    schema = json.loads((resources.files("inheritune") / "schemas" / "result.schema.json").read_text())
    assert set(printed) == set(schema["properties"])
    result = Result.load(place / "result.json")
    assert result.outcome in ("matched", "not_matched") and result.controls is None
    assert result.message in place.with_suffix(".log").read_text().replace("\n", " ")


@FAMILIES
def test_numbers_of_the_result_agree_with_each_other(runs: Runs, family: str) -> None:
    place = runs(family)
    result = Result.load(place / "result.json")
    training = result.ledger.phases["training"]
    assert [done.depth for done in result.rounds] == [2, 3]
    assert all(done.tokens == 1536 and done.steps == 6 for done in result.rounds)
    assert training.tokens == 3072 and training.flops == sum(done.flops for done in result.rounds)
    assert result.ledger.total.flops == pytest.approx(sum(p.flops for p in result.ledger.phases.values()))
    assert {"diagnosis", "choice", "validation", "training"} <= set(result.ledger.phases)
    assert (result.ledger.phases["heal"].tokens > 0) == (family == "llama")
    for done in result.rounds:
        assert done.gap.mean == pytest.approx(done.val_loss - result.reference.val_loss, abs=1e-9)
        assert done.gap.low < done.gap.mean < done.gap.high
    assert set(result.rounds[0].blocks) < set(result.rounds[1].blocks)
    best = min(result.rounds, key=lambda done: done.decisive.mean)
    assert (result.target.blocks, result.target.val_loss) == (best.blocks, best.val_loss)


@FAMILIES
def test_metrics_hold_every_step_once(runs: Runs, family: str) -> None:
    rows = [json.loads(line) for line in (runs(family) / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if row["kind"] == "step"]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert [row["depth"] for row in steps] == [2] * 6 + [3] * 6
    assert [row["tokens"] for row in steps] == [256 * step for step in range(1, 13)]
    assert [row["step"] for row in rows if row["kind"] == "validation"] == [3, 6, 9, 12]
    assert [row["action"] for row in rows if row["kind"] == "decision"] == ["inherit", "grow", "stop"]


@FAMILIES
def test_model_loads_in_plain_transformers_and_generates(runs: Runs, family: str) -> None:
    place = runs(family)
    result = Result.load(place / "result.json")
    model = AutoModelForCausalLM.from_pretrained(place / "model")
    tokenizer = AutoTokenizer.from_pretrained(place / "model")
    assert model.config.model_type == family and model.config.num_hidden_layers == result.target.depth
    assert model.num_parameters() == result.target.parameters
    ids = tokenizer("kalo mine", return_tensors="pt").input_ids
    cached, plain = (model.generate(ids, max_new_tokens=8, do_sample=False, use_cache=use) for use in (True, False))
    assert torch.equal(cached, plain) and cached.shape[1] == ids.shape[1] + 8


@pytest.mark.parametrize("family", ["gpt2", "qwen3"])
def test_first_round_starts_as_the_references_own_blocks(
    runs: Runs, references: Callable[[str], Path], family: str
) -> None:
    """Tensor by tensor, and everything outside the blocks with them."""
    place = runs(family)
    blocks, inside = Result.load(place / "result.json").rounds[0].blocks, INSIDE[family]
    start = load_file(place / "rounds" / "01-2-blocks" / "checkpoints" / "step-0000000" / "model.safetensors")
    assert_cut(start, load_file(references(family) / "model.safetensors"), blocks, inside)


INSIDE = {"gpt2": "transformer.h.", "qwen3": "model.layers."}


def assert_cut(start: dict[str, Tensor], own: dict[str, Tensor], blocks: list[int], inside: str) -> None:
    """The tensors of these blocks of a model, and all that it has outside of them."""
    outside = {name: tensor for name, tensor in own.items() if inside not in name}
    wanted = dict(outside)
    for place, block in enumerate(blocks):
        prefix = f"{inside}{block}."
        wanted |= {f"{inside}{place}.{name.removeprefix(prefix)}": own[name] for name in own if name.startswith(prefix)}
    assert start.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in start.items())


def test_same_command_again_trains_nothing_and_changes_no_bit(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call here may follow another test's, with other flags: the result keeps the last command."""
    place = runs("gpt2")
    monkeypatch.setattr("inheritune.training.loop._Training._step", lambda *_: pytest.fail("it trained again"))
    again = ("run", recipe_of(place), "--out", str(place), "--json")
    assert command(*again).code == 0
    before = content(place)
    assert command(*again).code == 0
    assert content(place) == before


def test_same_recipe_elsewhere_gives_the_same_bits(runs: Runs, tmp_path: Path) -> None:
    place = runs("gpt2")
    assert command("run", recipe_of(place), "--out", str(tmp_path / "again"), "--quiet").code == 0
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        assert (tmp_path / "again" / "model" / name).read_bytes() == (place / "model" / name).read_bytes(), name


def test_folder_of_another_recipe_is_refused_and_left_alone(runs: Runs) -> None:
    place = runs("gpt2")
    before = content(place)
    said = refused("run", recipe_of(place), "--out", str(place), "--set", "training.peak_lr=0.5", "--quiet")
    assert "training.peak_lr = 0.0001" in said and "0.5" in said
    assert content(place) == before


def test_folder_that_is_something_else_is_refused_and_left_alone(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    said = refused("run", recipe_of(runs("gpt2")), "--out", str(tmp_path))
    assert "is not empty and is no run folder" in said
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["thesis.txt"]


def test_quiet_says_nothing(runs: Runs) -> None:
    place = runs("gpt2")
    ended = command("run", recipe_of(place), "--out", str(place), "--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_progress_goes_to_standard_output_without_json(runs: Runs) -> None:
    place = runs("gpt2")
    ended = command("run", recipe_of(place), "--out", str(place))
    assert Result.load(place / "result.json").message in ended.out.replace("\n", " ") and not ended.err


def changed_run(tree: dict[str, Any], folder: Path, *arguments: str) -> tuple[Result, str]:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    ended = command("run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--json", *arguments)
    assert ended.code == 0, ended
    return Result.model_validate_json(ended.out), ended.err


def test_wide_margin_matches_at_once_and_controls_can_be_added(tree: dict[str, Any], tmp_path: Path) -> None:
    """`controls` may change when a run is continued: they are trained beside a target that stays as it is."""
    tree["match"]["margin"] = 20.0
    result, _ = changed_run(tree, tmp_path)
    assert result.outcome == "matched" and [done.depth for done in result.rounds] == [2]
    weights = (tmp_path / "out" / "model" / "model.safetensors").read_bytes()
    again, _ = changed_run(tree, tmp_path, "--controls")
    assert (tmp_path / "out" / "model" / "model.safetensors").read_bytes() == weights
    found = {control.name: control for control in again.controls or []}
    assert {name: control.depth for name, control in found.items()} == {"random": 2, "reference": 5}
    assert all(control.tokens == 1536 for control in found.values())
    assert found["random"].gap.mean > found["reference"].gap.mean
    assert again.rounds == result.rounds and again.ledger.phases["controls"].tokens > 3072


@pytest.mark.parametrize("repeatable", [True, False])
def test_kernels_that_repeat_are_used_from_the_first_measurement_on(
    repeatable: bool, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stop(*_: object) -> None:
        asked.append((torch.are_deterministic_algorithms_enabled(), deterministic.fill_uninitialized_memory))
        raise InputError("far enough")

    monkeypatch.setattr(run_module, "Bench", stop)
    tree["training"]["repeatable"] = repeatable
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(not repeatable)
    monkeypatch.setattr(deterministic, "fill_uninitialized_memory", True)
    with pytest.raises(InputError, match="far enough"):
        inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / "out"))
    torch.use_deterministic_algorithms(before, warn_only=True)
    assert asked == [(repeatable, False)], "and memory that nothing reads yet is not filled"


def test_limit_ends_the_run_and_can_be_lifted(tree: dict[str, Any], tmp_path: Path) -> None:
    result, said = changed_run(tree, tmp_path, "--set", "limits.max_rounds=1")
    assert result.outcome in ("budget_spent", "matched") and len(result.rounds) == 1
    assert result.outcome == "budget_spent" and "Next: " in said and "(growth.start)" in said
    lifted, _ = changed_run(tree, tmp_path, "--set", "limits.max_rounds=5")
    assert lifted.outcome == "not_matched" and len(lifted.rounds) == 2
    assert lifted.rounds[0] == result.rounds[0]


def test_growth_keeps_what_was_trained_and_adds_the_references_next_block(
    tree: dict[str, Any], gpt2: Path, tmp_path: Path
) -> None:
    tree["training"]["checkpoint_every"] = 100
    result, _ = changed_run(tree, tmp_path)
    held, wanted = (done.blocks for done in result.rounds)
    rounds = tmp_path / "out" / "rounds"
    before, after = (
        {**load_file(rounds / name / "model.safetensors"), **load_file(rounds / name / "optimizer.safetensors")}
        for name in ("01-2-blocks/checkpoints/step-0000006", "02-3-blocks/checkpoints/step-0000000")
    )
    reference = AutoModelForCausalLM.from_pretrained(gpt2).state_dict()
    for name, tensor in after.items():
        if name == "|random":
            continue
        _, _, rest = name.partition("transformer.h.")
        if not rest:
            assert torch.equal(tensor, before[name]), name
            continue
        place, _, inside = rest.partition(".")
        block = wanted[int(place)]
        if block in held:
            assert torch.equal(tensor, before[f"transformer.h.{held.index(block)}.{inside}"]), name
        else:
            assert "|" not in name and torch.equal(tensor, reference[f"transformer.h.{block}.{inside}"]), name
    states = [name for name in after if ".h." in name and name.endswith("|exp_avg")]
    assert len(states) == sum(".h." in name and name.endswith("|exp_avg") for name in before) > 0


def test_literal_growth_cuts_the_reference_again(tree: dict[str, Any], gpt2: Path, tmp_path: Path) -> None:
    """In the paper's loop the second round keeps nothing of the first: weights, optimizer and blocks are the reference's first."""
    tree["growth"] |= {"literal": True}
    tree["choice"]["method"] = "first"
    tree["training"]["checkpoints_kept"] = 9
    result, _ = changed_run(tree, tmp_path)
    assert [done.blocks for done in result.rounds] == [[0, 1], [0, 1, 2]]
    start = tmp_path / "out" / "rounds" / "02-3-blocks" / "checkpoints" / "step-0000000"
    assert_cut(load_file(start / "model.safetensors"), load_file(gpt2 / "model.safetensors"), [0, 1, 2], INSIDE["gpt2"])
    assert load_file(start / "optimizer.safetensors") == {}


@pytest.mark.parametrize(
    ("room", "name", "round_"), [(bench, "assemble", "01-2-blocks"), (targets, "assemble", "02-3-blocks")]
)
def test_a_cut_or_growth_that_is_not_what_it_should_be_is_never_trained(
    room: ModuleType, name: str, round_: str, tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One scale a little off: the model is sound in itself, and only the reference's own blocks show it."""
    original = getattr(room, name)

    def harmful(*arguments: Any, **options: Any) -> Any:
        made = original(*arguments, **options)
        made.transformer.h[1].ln_1.weight.data[0] *= 1.05
        return made

    monkeypatch.setattr(room, name, harmful)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ProofError, match="logits equal the reference's"):
        inheritune.run(str(tmp_path / "recipe.yaml"), out=str(tmp_path / "out"))
    assert not (tmp_path / "out" / "rounds" / round_).exists()


def test_blocks_are_chosen_by_the_criterion_that_was_asked_for(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its order is the run's."""
    choice = Ordering("lazy", "made up", 5, (3, 1, 0, 4, 2), 64, 1.0)
    monkeypatch.setattr(lab, "CRITERIA", {"lazy": lambda *_: choice})
    tree["choice"]["method"] = "lazy"
    result, _ = changed_run(tree, tmp_path, "--set", "growth.max_depth=2")
    assert [done.blocks for done in result.rounds] == [[2, 4]]


def test_the_policy_is_told_each_evaluation_in_the_rounds_own_steps(
    tree: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And, of what went before, the same numbers that are written down."""
    told: list[tuple[History, Plan]] = []
    decide = algorithm.next_action
    monkeypatch.setattr(algorithm, "next_action", lambda *given: told.append(given) or decide(*given))
    result, _ = changed_run(tree, tmp_path)
    history, plan = told[-1]
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    for number, done in enumerate(history.rounds, 1):
        seen = [row for row in rows if row["kind"] == "validation" and row["round"] == number]
        assert [(look.step, look.end) for look in done.seen] == [(3, 6), (6, 6)]
        assert [look.gap.mean for look in done.seen] == [row["gap"]["mean"] for row in seen]
        own = result.rounds[number - 1]
        assert (done.depth, done.tokens, done.flops, done.seconds) == (own.depth, own.tokens, own.flops, own.seconds)
    assert (plan.start, plan.max_depth, plan.round_steps, plan.margin) == (2, 3, 6, 1e-6)
    within = [given for given, _ in told if given.waiting and given.seen]
    assert [look.step for look in within[-1].seen] == [3], (
        "the second round is asked about after three of its own steps"
    )
    for depth, flops in plan.step_flops.items():
        own = next((done for done in result.rounds if done.depth == depth), None)
        assert own is None or flops * own.steps == pytest.approx(own.flops)


def test_blocks_by_hand(tree: dict[str, Any], tmp_path: Path) -> None:
    tree["choice"]["blocks"], tree["growth"] = "0,2,4", {"max_depth": 3}
    result, _ = changed_run(tree, tmp_path)
    assert [done.blocks for done in result.rounds] == [[0, 2, 4]]


def test_validation_file_and_muon(tree: dict[str, Any], texts: list[str], tmp_path: Path) -> None:
    valid = tmp_path / "valid.jsonl"
    valid.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:9]))
    tree["data"]["valid"], tree["training"]["optimizer"] = str(valid), "muon"
    result, _ = changed_run(tree, tmp_path, "--set", "growth.max_depth=2")
    assert result.validation.documents == 9 and len(result.rounds) == 1
