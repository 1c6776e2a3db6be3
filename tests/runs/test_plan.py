"""What is planned beforehand, against what a run then counts, and against what the model is."""

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from shell import command, refused
from tiny import recipe_tree
from torch import Tensor

from inheritune.config.loading import load_recipe
from inheritune.config.recipes import RunRecipe
from inheritune.decoder.anatomy import anatomy
from inheritune.errors import InputError
from inheritune.evidence.left import likely_after
from inheritune.models.hollow import hollow
from inheritune.models.load import load_model
from inheritune.models.packing import packed_bytes
from inheritune.records.estimate import RunEstimate
from inheritune.records.result import PACKED, Result
from inheritune.report import words
from inheritune.report.plan_words import already_fits, held_in_words, in_two_lines, packed_in_words
from inheritune.report.reach_words import reach_in_words
from inheritune.runs.plan import PlanRequest, plan
from inheritune.runtime import gauge
from inheritune.runtime.device import CPU
from inheritune.surgery.heal import heal
from inheritune.surgery.in_memory import inherit
from inheritune.training.activations import kept_for_backward
from inheritune.training.halves import in_halves
from inheritune.training.kernels import settled
from inheritune.training.pace import _extended, _tokens_at_once

Write = Callable[[dict[str, Any]], str]


def total_words(found: RunEstimate) -> str:
    return " ".join([*in_two_lines(found), *packed_in_words(found), *reach_in_words(found)])


def depths_of(told: Iterable[str]) -> list[int]:
    return [int(line.split()[0]) for line in told if line.startswith("  ")]


@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_round_is_planned_to_the_last_flop(
    tree: dict[str, Any], write_recipe: Write, tmp_path: Path, taught: bool, optimizer: str
) -> None:
    """The run's own plan, the command's, and what the ledger then holds; the target's size as it is written."""
    tree["growth"] = {"start": 3, "max_depth": 3}
    tree["training"]["optimizer"] = optimizer
    tree["objective"] = {"cross_entropy": 0.5, "logits": 0.5} if taught else {}
    recipe, out = write_recipe(tree), tmp_path / "out"
    found = plan(recipe)
    ended = command("run", recipe, "--out", str(out), "--price", "3.6e5")
    assert ended.code == 0
    result, own = Result.load(out / "result.json"), RunEstimate.load(out / "plan.json")
    training = {stage.name: stage for stage in found.stages}["training"]
    assert (training.tokens, training.flops) == (result.rounds[0].tokens, result.rounds[0].flops)
    assert (found.target.parameters, found.target.footprint) == (result.target.parameters, result.target.footprint)
    assert (found.reference.parameters, found.reference.footprint) == (
        result.reference.parameters,
        result.reference.footprint,
    )
    assert [stage.flops for stage in own.stages] == [
        stage.flops for stage in plan(recipe, training__peak_lr=1.0).stages
    ]
    said = ended.out.replace("\n", " ")
    assert all(line in said for line in in_two_lines(own))
    held = result.planned
    assert held is not None and (held.planned_seconds, held.planned_memory) == (own.total.seconds, own.total.memory)
    assert held.seconds == result.ledger.total.seconds and held.memory > 1e8
    assert (held.planned_cost, held.cost) == pytest.approx((100 * held.planned_seconds, 100 * held.seconds))
    (expected,) = (each for each in own.reach if each.depth == 3)
    assert (held.expected_gap, held.expected_chance, held.expected_tokens) == (
        expected.gap,
        expected.chance,
        own.round_tokens,
    )
    assert all(line in said for line in held_in_words(result))
    planned = {stage.name: stage for stage in own.stages}
    assert planned["samples"].tokens >= result.ledger.phases["samples"].tokens > 0
    assert planned["begin of text"].tokens == 16 * 128 * 3
    assert "the run took" in said and said.index("Plan: ") < said.index("Text: ") < said.index("Diagnosis of ")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_repair_takes_what_was_planned(
    family: str, references: Callable[[str], Path], tree: dict[str, Any], write_recipe: Write
) -> None:
    """To a quarter: how many passes a refitted block takes depends on how its MLP ends."""
    reference = load_model(references(family))
    depth, source = anatomy(reference).depth, torch.Generator().manual_seed(0)
    tokens_BT = torch.randint(0, 300, (16, 32), generator=source)
    blocks = [0, 2, *range(4, depth)]
    healing = heal(inherit(reference, blocks), reference, blocks, tokens_BT)
    tree["reference"], tree["growth"] = str(references(family)), {"start": len(blocks), "max_depth": len(blocks)}
    tree["choice"] |= {"heal": True, "heal_tokens": 512}
    stages = {stage.name: stage for stage in plan(write_recipe(tree)).stages}
    assert 0.75 < stages["heal"].flops / healing.flops < 1.25


def test_no_weight_is_read(
    gpt2: Path, tree: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inheritune.models.load.load_model", lambda *_: pytest.fail("weights are loaded"))
    ended = command("plan", write_recipe(tree))
    assert ended.code == 0 and ended.out.startswith("Plan: about ") and "Target: 2 of 5 blocks" in ended.out
    assert re.search(
        r"\nA round goes at about [\d,]+ tokens/s. In a training step: \d+ MB for the program itself, [\d.]+ [kM]B for ",
        ended.out,
    )
    assert "heal" in ended.out and "Gaps are nats per token" in ended.out


def test_it_is_printed_as_data(tree: dict[str, Any], write_recipe: Write) -> None:
    ended = command("plan", write_recipe(tree), "--json", "--price", "2.5", "--gpu", "h100", "--gpus", "4")
    found = RunEstimate.model_validate_json(ended.out)
    assert found.machine.memory == 80_000_000_000 and found.machine.processes == 4
    assert found.cost(3600.0) == 10.0
    assert found.total.memory == max(stage.memory for stage in found.stages)
    assert found.total.seconds == pytest.approx(sum(stage.seconds for stage in found.stages))
    stages = {stage.name: stage for stage in found.stages}
    assert stages["choice"].seconds == pytest.approx(stages["choice"].flops / 0.6 / 989e12), "cuts are compared in bf16"
    assert stages["heal"].seconds > stages["heal"].flops / 0.6 / 67e12, "in fp32"
    assert stages["validation"].seconds == pytest.approx(stages["validation"].flops / 0.6 / 989e12), (
        "a run on a GPU is in bf16"
    )


def test_controls_are_rounds_and_the_references_rate_is_tried_three_times(
    tree: dict[str, Any], write_recipe: Write
) -> None:
    """Of 100 steps each trial has eight, a sixteenth being fewer; the round of all five blocks is planned by itself."""
    tree["controls"], tree["growth"] = True, {"start": 3, "max_depth": 3}
    tree["training"] |= {"tokens": 25_600}
    stages = {stage.name: stage for stage in plan(write_recipe(tree)).stages}
    whole = {stage.name: stage for stage in plan(write_recipe(tree | {"growth": {"start": 5, "max_depth": 5}})).stages}
    own, trained_on = stages["control: random"], stages["control: reference"]
    assert (own.tokens, own.flops) == (25_600, stages["training"].flops)
    assert trained_on.tokens == 25_600 * 1.24 and trained_on.flops == pytest.approx(1.24 * whole["training"].flops)
    assert trained_on.seconds == pytest.approx(1.24 * whole["training"].seconds, rel=0.2)


def test_what_each_stage_costs_is_printed_where_a_price_is_given(tree: dict[str, Any], write_recipe: Write) -> None:
    """A stage a line, its seconds at the price last; without a price no line ends in an amount."""
    asked = ("plan", write_recipe(tree), "--gpu", "h100", "--price", "1e6")
    found = RunEstimate.model_validate_json(command(*asked, "--json").out)
    lines = command(*asked).out.splitlines()
    for stage in (*found.stages, found.total):
        (line,) = (line for line in lines if line.strip().startswith(f"{stage.name}  "))
        assert line.rstrip().endswith(f"{stage.seconds / 3600 * 1e6:,.2f}"), line
    unpriced = command(*asked[:4]).out.partition("\nA round goes at ")[0]
    assert not [line for line in unpriced.splitlines() if re.search(r"\d\.\d\d$", line.rstrip())]


def test_a_model_is_planned_for_without_a_recipe(gpt2: Path, corpus: Path) -> None:
    found = plan(str(gpt2), str(corpus / "words.jsonl"), training__tokens=4096)
    parameters = load_model(gpt2).num_parameters()
    assert found.reference.parameters == parameters and found.reference.depth == 5
    assert found.reference.footprint.weight_bytes == 4 * parameters and found.round_tokens >= 4096
    text = (corpus / "words.jsonl").stat().st_size
    assert found.text_tokens == round(text / 4.2)


@pytest.mark.parametrize(("fit", "depth"), [("3", 3), ("3 blocks", 3), ("1.2x", 3), ("0.1MB", 2), ("90kB", 1)])
def test_a_size_is_met(gpt2: Path, fit: str, depth: int) -> None:
    """The deepest cut that is no larger; one block more is."""
    found = plan(str(gpt2), asked=PlanRequest(fit=fit))
    assert found.target.depth == depth
    whole, sizes = found.reference.footprint.weight_bytes, [found.target.footprint.weight_bytes]
    sizes.append(plan(str(gpt2), asked=PlanRequest(fit=str(depth + 1))).target.footprint.weight_bytes)
    wanted = {"1.2x": whole / 1.2, "0.1MB": 1e5, "90kB": 9e4}.get(fit)
    assert wanted is None or sizes[0] <= wanted < sizes[1]


def test_more_tokens_buy_more(gpt2: Path) -> None:
    few, many = (plan(str(gpt2), training__tokens=tokens) for tokens in (4096, 40_960_000))
    for one, other in zip(few.reach, many.reach, strict=True):
        assert one.chance <= other.chance and one.gap[1] >= other.gap[1] and one.lost == other.lost
    assert [each.depth for each in few.reach] == [4, 3, 2, 1]
    assert "Not with these tokens" in total_words(few)
    bought = total_words(plan(str(gpt2), training__tokens=40_960_000, match__margin=1.0))
    assert "Not with these tokens" not in bought and "fewer than half of the blocks" in bought
    assert "fewer than half of the blocks" not in total_words(few)


def test_the_tokens_for_an_even_chance_give_one(gpt2: Path) -> None:
    asked = PlanRequest(fit="4")
    wanted = plan(str(gpt2), asked=asked, match__margin=0.05).tokens_for_even
    assert wanted is not None
    at, below = (
        plan(str(gpt2), asked=asked, match__margin=0.05, training__tokens=each)
        for each in (wanted + 65_536, wanted // 2)
    )
    assert at.reach[0].chance >= 0.5 > below.reach[0].chance


def test_the_margin_that_is_told_has_nine_chances_in_ten(gpt2: Path) -> None:
    found = plan(str(gpt2), training__tokens=4096)
    deepest = found.reach[0]
    assert f"% to match within 0.01, of 90% within {deepest.gap[2]:.2g}" in total_words(found)
    wide = plan(str(gpt2), training__tokens=4096, match__margin=deepest.gap[2])
    assert wide.reach[0].chance == pytest.approx(0.9, abs=0.02)
    line = next(line for line in reach_in_words(wide) if line.startswith(f"  {deepest.depth} blocks: "))
    assert line.count("within") == 1, "the recipe's margin has them already"


def test_what_does_not_fit_is_made_to_fit(
    tree: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with a little less than is needed: the setting that is proposed fits, and is the first that does."""
    tree["training"] |= {"tokens": 8192, "batch_tokens": 4096, "micro_batch_size": 128}
    recipe = write_recipe(tree)
    whole = plan(recipe)
    assert whole.fits and not whole.advice
    free = whole.total.memory - 1_000_000
    monkeypatch.setattr("inheritune.runtime.gauge.free_memory", lambda on: free)
    found = plan(recipe)
    assert not found.fits and "training.micro_batch_size=64 makes it fit (the result" in found.advice[0]
    assert plan(recipe, training__micro_batch_size=64).fits
    monkeypatch.setattr("inheritune.runtime.gauge.free_memory", lambda on: 1000)
    assert "no setting makes it fit" in plan(recipe).advice[0]


def test_a_checkpoint_that_is_written_beside_the_training_is_counted_where_there_is_room_for_it(
    tree: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy is of the weights and of two states of each: with all of a step where steps follow, else after the gradients are gone."""
    recipe = write_recipe(tree)

    def memory(every: int) -> tuple[int, int]:
        found = plan(recipe, training__checkpoint_every=every)
        return {stage.name: stage.memory for stage in found.stages}["training"], found.step.weights + found.step.states

    (beside, copy), (after, _) = memory(1), memory(100)
    monkeypatch.setattr("inheritune.runtime.gauge.free_memory", lambda on: beside + copy)
    (alone, _), (alone_after, _) = memory(1), memory(100)
    assert beside == alone + copy and alone == alone_after and alone <= after < beside


def test_a_plan_says_what_its_numbers_mean(gpt2: Path) -> None:
    """Of a size that was asked for no match; how often a text is read; whose cuts are taken; that whole steps are more than was asked for."""
    found = plan(str(gpt2), asked=PlanRequest(fit="4"), training__tokens=70_000)
    assert (found.asked_tokens, found.round_tokens) == (70_000, 131_072) and found.goal == "fit"
    said = total_words(found)
    assert "131,072 tokens (training.tokens=70,000, rounded up to whole steps)" in said
    assert "is expected, and no match is claimed" in said and "chance" not in said and "to match" not in said
    assert "chosen greedily and a factor of two apart." in said
    reach = [each.model_copy(update={"chance": 0.2}) for each in found.reach]
    other = found.model_copy(
        update={"goal": "cheapest", "choice": "first", "reach": reach, "tokens_for_even": 9_000, "text_tokens": 3_000}
    )
    said = total_words(other.model_copy(update={"asked_tokens": None, "round_tokens": 3_000}))
    assert "a round of about 9 k tokens, 3.0 readings of the text." in said
    assert "this recipe takes them by 'first', which may lose more" in said and "rounded" not in said
    by_hand = total_words(other.model_copy(update={"choice": None}))
    assert "here they are named by hand, which may lose more" in by_hand


def test_a_text_that_is_too_short_for_an_even_chance_is_told_as_such_once(gpt2: Path) -> None:
    """Four readings count: 12,000 tokens of a text of 3,000 are the last that any number of tokens is worth."""
    found = plan(str(gpt2), training__tokens=70_000)
    reach = [each.model_copy(update={"chance": 0.2}) for each in found.reach]
    short = found.model_copy(update={"reach": reach, "text_tokens": 3_000})
    enough, more = (total_words(short.model_copy(update={"tokens_for_even": each})) for each in (12_000, 12_001))
    assert "For an even chance, 4 blocks take a round of about 12 k tokens, 4.0 readings of the text." in enough
    assert "However often" not in enough and "For an even chance" not in more
    assert (
        "However often it is read, this text gives 4 blocks no even chance: that takes a round of about 12 k tokens, and no more than 4 readings"
        " of a text count, so it takes a text of about 3 k. Yours has about 3 k."
    ) in more
    (readings,) = re.findall(r"[^.]*tokens: each is read .*?of it\.", more)
    assert (
        readings
        == " The text has about 3 k tokens: each is read 43.7 times, of which no more than 4 count: give more of it."
    )
    unknown = total_words(short.model_copy(update={"tokens_for_even": 12_001, "text_tokens": None}))
    assert "For an even chance, 4 blocks take a round of about 12 k tokens." in unknown


def test_tokens_that_buy_almost_nothing_are_told_as_such(gpt2: Path) -> None:
    """Where the gap is a tenth or less below what one token leaves; so many tokens as are named leave half of it."""
    found = plan(str(gpt2), training__tokens=70_000)

    def left(tokens: float, parameters: int) -> float:
        return likely_after(0.2, tokens, parameters, 0.01).gap[1]

    for parameters in (1_000_000, 8_000_000, 8_400_000, 100_000_000):
        reference = found.reference.model_copy(update={"parameters": parameters})
        told = list(reach_in_words(found.model_copy(update={"reference": reference, "text_tokens": None})))
        lines = [line for line in told if line.startswith("These tokens buy almost nothing: 131 k are ")]
        nothing = left(131_072, parameters) > 0.9 * left(131_072, 10**15)  # so large that tokens do nothing
        assert len(lines) == nothing == (parameters > 8_180_000)
    assert (
        "131 k are 0.0013 for each of the reference's parameters, which make the gap less than 3% smaller" in lines[0]
    )
    assert "About 52.7 M tokens of new text would halve that gap." in lines[0]
    assert left(52_700_000, parameters) == pytest.approx(left(52_700_000, 10**15) / 2, rel=1e-3)
    read = found.model_copy(update={"reference": reference, "text_tokens": 2_000, "goal": "fit"})
    assert "These tokens buy almost nothing: 8 k that count are 0.00008 for each" in total_words(read)


def test_a_probe_tries_this_machine(tree: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The seconds of a round are those of its FLOPs at the rate that was tried; a clock that is told makes it a known one."""
    ticks = iter(range(10_000))
    gauge.matrix_rate("fp32", CPU)  # kept for the whole process: the true one, not one by the clock below
    monkeypatch.setattr("inheritune.training.pace.time.perf_counter", lambda: float(next(ticks)))
    found = plan(write_recipe(tree), asked=PlanRequest(probe=True))
    assert found.machine.tried
    training = {stage.name: stage for stage in found.stages}["training"]
    steps, micro_batches = 6, 1
    assert training.seconds > steps * micro_batches * 0.1, (
        "a micro-batch took a tick, and a cut of two of five blocks less"
    )


def test_a_probe_takes_no_more_tokens_at_once_than_its_time_allows() -> None:
    assert _tokens_at_once(8, 128, most=1e6) == (8, 128)
    assert _tokens_at_once(8, 128, most=300) == (2, 128)
    assert _tokens_at_once(8, 128, most=100) == (1, 100)
    assert _tokens_at_once(8, 1024, most=3) == (1, 64) and _tokens_at_once(8, 32, most=3) == (1, 32)


def test_what_a_micro_batch_costs_whatever_its_tokens_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which work takes a second and a hundredth for each token; where the first hides the other, a quarter of it goes with the tokens."""
    now = [0.0]

    def work(ids_BT: Tensor, at_once: float = 1.0) -> None:
        now[0] += at_once + ids_BT[:, 1:].numel() / 100

    monkeypatch.setattr("inheritune.training.pace.time.perf_counter", lambda: now[0])
    ids_BT = torch.zeros(1, 65)
    assert _extended(work, ids_BT, 512, 1.0) == pytest.approx(1 + 5.12)
    assert _extended(work, ids_BT, 64, 1.0) == pytest.approx(1 + 0.64), "as many as are asked for"
    assert _extended(partial(work, at_once=64.0), ids_BT, 128, 1.0) == pytest.approx(1.25 * 64.64)


def test_a_shallow_target_shows_its_neighbours_and_not_all_between(gpt2: Path) -> None:
    found = plan(str(gpt2), asked=PlanRequest(fit="1"))
    far = [found.reach[0].model_copy(update={"depth": depth}) for depth in range(23, 1, -1)] + [found.reach[-1]]
    told = list(reach_in_words(found.model_copy(update={"reach": far})))
    assert depths_of(told) == [2, 1] and any(line.startswith("  1 block: ") for line in told), (
        "of a size, its own alone"
    )
    claimed = found.model_copy(update={"reach": far, "goal": "cheapest"})
    assert depths_of(reach_in_words(claimed)) == [23, 22, 21, 20, 19, 2, 1]


def test_a_packed_reference_is_held_against_the_packed_target(gpt2: Path) -> None:
    """By the sizes that are estimated: as many bytes save nothing, one fewer some; said once, and of no other reference."""
    found = plan(str(gpt2), asked=PlanRequest(fit="1"))
    assert found.packed_bytes == packed_bytes(inherit(load_model(gpt2), [0])) and "acked" not in total_words(found)

    def told(weight_bytes: int) -> str:
        footprint = found.reference.footprint.model_copy(update={"dtype": PACKED, "weight_bytes": weight_bytes})
        reference = found.reference.model_copy(update={"footprint": footprint})
        return total_words(
            found.model_copy(update={"reference": reference, "packed_bytes": {"q8_0": 141_000, "q4_k_m": 103_000}})
        )

    line = "Packed as well (inheritune export --to gguf --quantise), the target takes about 141 kB as q8_0 and 103 kB as q4_k_m: "
    assert f"{line}no less than your file, so this cut saves nothing on disk." in told(103_000)
    assert f"{line}about 2 kB less than your file." in told(105_000)
    assert told(103_000).count("packed") == 1, "(the reference's are packed in 103 kB)"


def test_a_file_that_has_the_wanted_size_already_is_told_first(gpt2: Path) -> None:
    found = plan(str(gpt2), asked=PlanRequest(fit="100kB"))
    assert found.asked_bytes == 100_000 and not list(already_fits(found))
    assert found.reference.footprint.weight_bytes > 100_000
    footprint = found.reference.footprint.model_copy(update={"dtype": PACKED, "weight_bytes": 98_400})
    small = found.model_copy(update={"reference": found.reference.model_copy(update={"footprint": footprint})})
    (line,) = already_fits(small)
    assert (
        line.startswith("Your file of 98.4 kB already fits: ")
        and "take 100 kB at most as they are written, in float32" in line
    )
    assert not list(already_fits(plan(str(gpt2), asked=PlanRequest(fit="2")))), "blocks are no bytes"


def test_on_a_card_that_was_never_tried_time_and_money_have_a_range(gpt2: Path) -> None:
    """From two fifths to 16% of its data sheet; on this machine, whose products are timed, there is none."""
    card, here = (plan(str(gpt2), asked=PlanRequest(gpu=gpu, gpus=2, price=5e5)) for gpu in ("h100", "cpu"))
    seconds = card.total.seconds
    assert card.machine.shares == (0.4, 0.16) and card.seconds_in_all == pytest.approx((seconds, 2.5 * seconds))
    low, high = 1e6 * seconds / 3600, 2.5e6 * seconds / 3600
    assert card.cost_in_all == pytest.approx((low, high))
    said = in_two_lines(card)[0]
    assert said.startswith(f"Plan: about {words.about(seconds)} to {words.about(2.5 * seconds)} with one round")
    assert (
        f", costs {low:,.2f} to {high:,.2f} (at --price 500,000.00 an hour), on 2 x h100, by 40% (as in the table) to 16%"
        in said
    )
    assert said.endswith("with models of 0.4 and 1.2 billion parameters, and small models reach less")
    seconds = here.total.seconds
    assert here.machine.shares is None and here.seconds_in_all == (seconds, seconds)
    said = in_two_lines(here)[0]
    assert said.startswith(f"Plan: about {words.about(seconds)} with one round")
    assert f", costs {1e6 * seconds / 3600:,.2f} (at" in said and "assumed" not in said
    assert said.endswith("on 2 x this machine, at the speed of half a second of matrix products when this was planned")
    assert "costs" not in in_two_lines(plan(str(gpt2)))[0]


def test_small_and_large_letters_are_the_same(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other processes may write to the disk between two plans.
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=10**12))
    assert (
        plan(str(gpt2), asked=PlanRequest(gpu="H100")).machine == plan(str(gpt2), asked=PlanRequest(gpu="h100")).machine
    )
    for one, other in (("100kB", "100KB"), ("0.1MB", "0.1mb"), ("1.2x", "1.2X"), ("3 blocks", "3 Blocks")):
        assert (
            plan(str(gpt2), asked=PlanRequest(fit=one)).target == plan(str(gpt2), asked=PlanRequest(fit=other)).target
        )


@pytest.mark.parametrize("key", ["data.train", "data.valid", "data.outside"])
def test_text_that_is_missing_is_refused_before_the_model_is_looked_at(
    tree: dict[str, Any], write_recipe: Write, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr("inheritune.runs.plan.locate", lambda *_, **__: pytest.fail("the model is looked for"))
    missing: Any = {"other": "nowhere.txt"} if key == "data.outside" else "nowhere.txt"
    with pytest.raises(InputError, match="nowhere"):
        plan(write_recipe(tree), **{key.replace(".", "__"): missing})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--gpu", "h900"), "--gpu 'h900' is unknown: choose h100, h200, a100, 4090, cpu"),
        (("--gpus", "0"), "--gpus is 0"),
        (("--price", "-1"), "--price is -1"),
        (("--price", "nan"), "--price is nan"),
        (("--fit", "1kB"), "--fit '1kB' asks for 1,000 bytes, and one block with all that stands outside"),
        (("--fit", "5"), "--fit '5' asks for 5 blocks, which the reference meets with all its 5 blocks"),
        (("--set", "growth={goal: fit, target: {depth: 5}}"), "growth.target asks for 5 blocks, which"),
        (("--fit", "0"), "--fit '0' is no size"),
        (("--fit", "lots"), "--fit 'lots' is no size"),
        (("--fit", "0.5x"), "--fit '0.5x' is no size"),
        (("--fit", "1.2.3GB"), "--fit '1.2.3GB' is no size"),
        (("--probe", "--gpu", "h100"), "--probe tries this machine"),
        (("--set", "training.peek_lr=1"), "training.peek_lr"),
        (("--text", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_what_is_refused(tree: dict[str, Any], write_recipe: Write, given: tuple[str, ...], said: str) -> None:
    assert said in refused("plan", write_recipe(tree), "--quiet", *given)


def test_a_run_refuses_a_price_that_is_none_at_once(tree: dict[str, Any], write_recipe: Write, tmp_path: Path) -> None:
    assert "--price is -1" in refused("run", write_recipe(tree), "--out", str(tmp_path / "out"), "--price", "-1")
    assert not (tmp_path / "out").exists()


def test_models_that_are_none(tmp_path: Path, write_recipe: Write) -> None:
    assert "does not exist" in refused("plan", str(tmp_path / "nowhere"), "--quiet")
    (tmp_path / "empty").mkdir()
    assert "config.json" in refused("plan", str(tmp_path / "empty"), "--quiet")
    with pytest.raises(InputError, match="no recipe"):
        plan(str(tmp_path / "nowhere.yaml"))
    tree = recipe_tree(tmp_path / "empty", tmp_path / "empty")
    del tree["reference"]
    assert "reference" in refused("plan", write_recipe({**tree, "model": {"model_type": "gpt2"}}))


def test_on_a_gpu_the_reference_is_beside_a_training_only_where_it_teaches(gpt2: Path) -> None:
    """And then in halves; on the CPU it always is. No stage before the training has more weights than the reference's there."""
    reference = load_model(gpt2)
    whole = sum(parameter.nbytes for parameter in reference.parameters())
    halves = sum(parameter.nbytes for parameter in in_halves(reference).parameters())
    alone: dict[str, Any] = {"objective__logits": 0}
    card = PlanRequest(gpu="h100")
    held = [
        plan(str(gpt2), asked=asked, **more).step.reference for asked, more in ((card, alone), (card, {}), (None, {}))
    ]
    assert held == [0, halves, whole]
    beside = {stage.name: stage.memory for stage in plan(str(gpt2), asked=card).stages}
    cut = 4 * plan(str(gpt2)).target.parameters
    on_cpu = {stage.name: stage.memory for stage in plan(str(gpt2)).stages}
    assert on_cpu["diagnosis"] - beside["diagnosis"] == whole and on_cpu["heal"] - beside["heal"] == 2 * cut


def test_in_bf16_rounded_matrices_are_counted_once(gpt2: Path, tree: dict[str, Any], write_recipe: Write) -> None:
    """Weights and activations together are the cut's weights, what autograd keeps of it, and its head's matrix in bf16."""
    path = write_recipe(tree)
    found, recipe = plan(path, asked=PlanRequest(gpu="h100")), load_recipe(RunRecipe, path, {})
    training, cut = settled(recipe.training, torch.device("cuda")), inherit(load_model(gpt2), range(2))
    kept = kept_for_backward(hollow(cut.config, type(cut)).float(), training, recipe.data.sequence_length)
    head = 2 * cut.get_output_embeddings().weight.numel()
    weights = sum(parameter.nbytes for parameter in cut.parameters())
    assert training.precision == "bf16" and found.step.weights + found.step.activations == weights + kept + head
