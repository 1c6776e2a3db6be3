"""Losses of cuts read on some places first: orders are those of all places, and what a stop leaves is not measured again."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import families
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from inheritune import Profile, diagnose
from inheritune.decoder.stack import Stack
from inheritune.diagnosis import cuts
from inheritune.diagnosis.curves import inheritance_curves
from inheritune.diagnosis.cuts import Loss, Places, ascending, least
from inheritune.diagnosis.deadline import Deadline
from inheritune.diagnosis.suggestion import suggest
from inheritune.disk.kept import Kept
from inheritune.errors import OutputError
from inheritune.records.profile import Curves

TOKENS_BT = torch.randint(3, 96, (3, 41), generator=torch.Generator().manual_seed(0))
ANGULAR_SS = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if 96 tokens were a large vocabulary."""
    monkeypatch.setattr(cuts, "LARGE_VOCABULARY", 96)


@pytest.fixture(scope="module")
def model(gpt2: Path) -> PreTrainedModel:
    """A trained model of 5 blocks, which differ in what they are worth."""
    return AutoModelForCausalLM.from_pretrained(gpt2).eval()


@pytest.fixture(scope="module")
def stack(model: PreTrainedModel, corpus: Path) -> Callable[[], Stack]:
    """Makes a fresh stack on text that the model knows."""
    ids = np.fromfile(corpus / "words.bin", "<u2")[: 24 * 32].astype(np.int64)
    return lambda: Stack(model, torch.from_numpy(ids).view(24, 32))


def made_up(values: dict[str, Tensor], vocabulary: int = 1 << 20) -> dict[str, Loss]:
    """Losses (B, P) by name that are there to be read; the whole model's are zero."""
    shape = next(iter(values.values())).shape
    stack: Any = SimpleNamespace(whole_token_losses=torch.zeros(shape, dtype=torch.float64), depth=9)
    stack.whole_losses = stack.whole_token_losses.mean(1)
    config = SimpleNamespace(vocab_size=vocabulary)
    config.get_text_config = lambda decoder: config
    stack.model = SimpleNamespace(config=config)
    stack.losses_at = lambda hidden, places_BN: hidden.gather(1, places_BN)
    places = Places(stack)
    return {
        name: Loss.of(stack, places, [], lambda all_BP=all_BP: all_BP.double())  # type: ignore[misc]
        for name, all_BP in values.items()
    }


def noise(seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(8, 160, generator=torch.Generator().manual_seed(seed)).double()


def test_what_is_far_apart_is_ordered_on_the_first_places() -> None:
    shared = noise(4, 5.0)
    found = made_up({name: shared + offset for name, offset in (("b", 0.2), ("a", 0.1), ("c", 0.3))})
    assert [found["a"], found["b"], found["c"]] == ascending(list(found.values())) and least(
        [*found.values()]
    ) is found["a"]
    assert all(loss.values_BN.shape == (8, 20) for loss in found.values())


def test_what_is_near_is_read_on_as_many_places_as_it_takes() -> None:
    """Of "a" and "b" the means over all places differ by 0.001, and the noise of each is a thousand times that."""
    a, b = noise(1), noise(2)
    b += a.mean() - b.mean() + 0.001
    found = made_up({"far": a + 3, "b": b, "a": a})
    assert ascending(list(found.values())) == [found["a"], found["b"], found["far"]]
    assert (found["a"].exact, found["b"].exact, found["far"].exact) == (True, True, False)
    again = made_up({"far": a + 3, "b": b, "a": a})
    assert least(list(again.values())) is again["a"]


@pytest.mark.parametrize("power", [1, 3])
def test_an_order_is_as_rarely_taken_for_sure_when_it_is_not_as_is_said(power: int) -> None:
    """Pairs whose difference has mean zero over all places, normal or with heavy tails: of 1,500 none is called, and two standard
    errors call as many as Student's t says, 4.7% of 144 degrees of freedom; heavy tails fewer."""
    called, wide = 0, 0
    for seed in range(1, 1501):  # 0 is the seed by which places are drawn
        difference = noise(seed) ** power
        found = made_up({"a": difference - difference.mean(), "b": torch.zeros(8, 160)})
        a, b = found["a"], found["b"]
        called += a.surely_above(b.values_BN) or b.surely_above(a.values_BN)
        error = (a.values_BN.var(1) / 20 * (1 - 20 / 160)).sum().sqrt() / 8
        wide += bool(a.values_BN.mean().abs() > 2 * error)
        assert a._least(a.values_BN) == pytest.approx((a.values_BN.mean() - cuts.SURE * error).item())
    assert called == 0 and 0.035 < wide / 1500 < 0.065


def test_the_chance_of_a_wrong_order_is_what_is_said() -> None:
    """Oracle: the density of Student's t, summed. Of 8 places and more of each of B sequences, 100 in all, 7 / 8 are free."""
    freedom = cuts.LEAST_READ * (cuts.LEAST_OF_EACH - 1) // cuts.LEAST_OF_EACH
    at = np.linspace(cuts.SURE, 200, 2_000_000)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(freedom * math.pi) / 2
    tail = np.exp(log_scale) * np.sum((1 + at**2 / freedom) ** (-(freedom + 1) / 2)) * (at[1] - at[0])
    assert freedom == 87 and 3 * tail < 1e-5
    for sequences, places in ((1, 100), (4, 25), (12, 9), (50, 8), (200, 8)):
        whole = torch.zeros(sequences, 60 if sequences > 1 else 800)
        assert next(iter(made_up({"a": whole}).values())).values_BN.shape == (sequences, places)


def test_few_tokens_are_all_read_at_once() -> None:
    assert made_up({"a": torch.zeros(3, 30)})["a"].exact


def test_equal_cuts_keep_their_order_and_all_is_read() -> None:
    found = made_up({"a": noise(3), "b": noise(3)})
    assert least([found["b"], found["a"]]) is found["b"] and found["a"].exact


def test_once_late_nothing_is_read_further() -> None:
    """Of three that are all near, as many are read further as the clock allows; the order is that of what is read."""

    def near() -> list[Loss]:
        return list(made_up({name: noise(seed) for seed, name in enumerate("abc", 1)}).values())

    for choose in (least, ascending):
        for allowed in (0, 1, 2):
            losses, asked = near(), iter(range(99))
            found = choose(losses, lambda asked=asked, allowed=allowed: next(asked) >= allowed)  # type: ignore[misc]
            assert sorted(loss.values_BN.shape[1] for loss in losses) == sorted([40] * allowed + [20] * (3 - allowed))
            order = sorted(losses, key=lambda loss: loss.mean)
            assert found == (order[0] if choose is least else order)


def curves_of(stack: Stack, **more: Any) -> Curves:
    return inheritance_curves(stack, ANGULAR_SS, **more)[0]


def test_a_large_vocabulary_changes_no_order_and_costs_fewer_products(
    stack: Callable[[], Stack], sampled: None
) -> None:
    found = curves_of(stack())
    cuts.LARGE_VOCABULARY = 1 << 14
    whole = curves_of(stack())
    assert whole.places is None and found.places == 8
    for name in ("first", "run", "scattered"):
        assert [cut.blocks for cut in getattr(found, name)] == [cut.blocks for cut in getattr(whole, name)]
        for one, other in zip(getattr(found, name), getattr(whole, name), strict=True):
            assert one.loss == pytest.approx(other.loss, abs=6 * max(one.rise_se, 1e-6))
    assert found.head_passes < whole.head_passes


def test_the_suggestion_rests_on_cuts_that_are_read_in_full(sampled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    untrained = families.reference("llama")  # every cut is near
    found = curves_of(Stack(untrained, TOKENS_BT))
    cuts.LARGE_VOCABULARY = 1 << 14
    whole = curves_of(Stack(untrained, TOKENS_BT))
    for one, other in ((found.first[-1], whole.first[-1]), (found.run[-1], whole.run[-1])):
        assert one.rise == pytest.approx(other.rise, abs=1e-9) and one.rise_se == pytest.approx(other.rise_se, abs=1e-9)


def test_what_the_time_was_too_short_to_tell_apart_is_said(sampled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cut of an untrained model is near every other: all are run, and the time ends while they are told apart."""
    untrained, asked = families.reference("llama"), [0]

    def clock() -> float:
        asked[0] += 1
        return float(asked[0])

    monkeypatch.setattr("inheritune.diagnosis.deadline.time", SimpleNamespace(monotonic=clock))
    whole, times = curves_of(Stack(untrained, TOKENS_BT), deadline=Deadline(1e9)), asked[0]
    assert not whole.cut_short
    asked[0] = 0
    found = curves_of(Stack(untrained, TOKENS_BT), deadline=Deadline(times - 0.5))
    assert found.cut_short and found.left_out == 0
    layers = diagnose(untrained, TOKENS_BT, curve_sequences=0, untrained=False).layers
    for curves, said in ((found, True), (whole, False)):
        assert ("no time to tell apart" in suggest(layers, curves, 3, 6).rests_on) == said


@pytest.mark.parametrize("large", [False, True])
def test_a_stopped_measurement_goes_on_where_it_was(
    large: bool, stack: Callable[[], Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "LARGE_VOCABULARY", 96 if large else 1 << 14)
    plain, place = curves_of(stack()), tmp_path / "cuts.jsonl"

    def stop(done: int, _: int) -> None:
        if done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        curves_of(stack(), place=place, count=stop)
    with place.open("a") as file:
        file.write('{"blocks": [0')  # a kill in the middle of a line
    measured: list[int] = []
    monkeypatch.setattr(Loss, "of", counting(Loss.of, measured))
    found = curves_of(stack(), place=place)
    if large:  # hidden states are not kept: those that are read further are run again
        assert found.block_passes > plain.block_passes
        found, plain = (curves.model_copy(update={"block_passes": 0}) for curves in (found, plain))
    assert found == plain
    again = len(measured)
    curves_of(stack())
    assert (again, len(measured) - again) == (8, 14)  # of 14 cuts, 6 were measured when the thirteenth was asked for


def test_cuts_are_counted_once_each(tmp_path: Path) -> None:
    """Of six blocks where runs from the first blocks on are shortlisted: the first 5 to 1; each left out alone, of which the last
    is the first 5; 3 runs of two, 3 of three, 3 of four with the first 2 among them, 2 of five with the first 1; 4 scattered."""
    model, zeros_SS = families.reference("llama"), torch.zeros(7, 7)
    nothing, _ = inheritance_curves(Stack(model, TOKENS_BT), zeros_SS, deadline=Deadline(0.0))
    assert (nothing.measured, nothing.left_out) == (0, 5 + 5 + 3 + 3 + 2 + 1 + 4)
    found, _ = inheritance_curves(Stack(model, TOKENS_BT), zeros_SS, place=tmp_path / "cuts.jsonl")
    kept = {json.dumps(json.loads(line)["blocks"]) for line in (tmp_path / "cuts.jsonl").read_text().splitlines()[1:]}
    assert (found.measured, found.left_out, found.tokens) == (len(kept), 0, TOKENS_BT.numel())
    layers = diagnose(model, TOKENS_BT, curve_sequences=0, untrained=False).layers
    said = suggest(layers, found, 3, 6).rests_on
    assert said == f"losses of {len(kept)} cuts, none of them trained, on 3 sequences of 41 tokens"


def counting(call: Any, calls: list[int]) -> Any:
    return lambda *given: calls.append(1) or call(*given)


def test_results_of_another_question_are_not_taken(tmp_path: Path) -> None:
    place = tmp_path / "kept.jsonl"
    kept = Kept(place, {"of": 0.1})
    kept.add({"x": 1})
    kept.add({"x": 2})
    assert Kept(place, {"of": 0.1}).results == [{"x": 1}, {"x": 2}]
    assert Kept(place, {"of": 0.2}).results == [] and Kept(place, {"of": 0.1}).results == []
    for damage in (b"", b'{"of": 0.1}\n7\n', b'{"of": 0.1}\n\xff\xfe'):
        place.write_bytes(damage)
        assert Kept(place, {"of": 0.1}).results == []


def test_a_file_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    for content in (b"[]\n", b"\xff\xfe", b'{"mine": 1}\n'):
        (tmp_path / "cuts.jsonl").write_bytes(content)
        with pytest.raises(OutputError, match=r"cuts.jsonl' is in the way"):
            Kept(tmp_path / "cuts.jsonl", {"of": 0.1})
        assert (tmp_path / "cuts.jsonl").read_bytes() == content


def test_when_the_time_is_over_what_is_there_is_a_profile() -> None:
    profile = diagnose(families.reference("llama"), TOKENS_BT, untrained=False, minutes=0)
    assert profile.curves is None and profile.left_out == ["losses of cuts (no time)"]
    assert "no cut was run" in suggest(profile.layers, None, 3, 6).reason
    said = " ".join(str(profile).split())
    assert said.count("is suggested") == 1 and "(no time). For what had no time, give more --minutes." in said
    whole = diagnose(families.reference("llama"), TOKENS_BT, untrained=False)
    assert not whole.left_out and "--minutes" not in str(whole)
    late = curves_of(Stack(families.reference("llama"), TOKENS_BT), deadline=Deadline(0.0))
    assert "no cut was run" in suggest(profile.layers, late, 3, 6).reason


def test_where_no_block_had_time_to_be_left_out_the_figures_are_drawn(tmp_path: Path) -> None:
    from inheritune.report.profile_figures import influence, save_figures

    drawn = diagnose(families.reference("llama"), TOKENS_BT, untrained=False).model_dump()
    assert len(influence(drawn).axes) == 2
    for layer in drawn["layers"]:
        layer["without_loss"] = layer["without_rise_se"] = None
    assert len(save_figures(drawn, tmp_path, {})) == 8
    assert len(influence(drawn).axes) == 1, "no panel stays empty"


def test_each_figure_that_is_written_says_what_was_measured(tmp_path: Path) -> None:
    from inheritune.report.profile_figures import save_figures

    profile = diagnose(families.reference("llama"), TOKENS_BT, untrained=False, curve_sequences=2)
    drawn = profile.model_dump() | {"model": "models/my $model$"}
    save_figures(drawn, tmp_path, {"widest": torch.eye(41)}, drawn, "texts/some.txt", 1)
    read = {"attention-maps": 1, "inheritance-curve": 2}
    for figure in ("rank-and-mass", "influence", "heads", "inheritance-curve", "attention-maps", "against"):
        words = " ".join(re.findall(r"<text[^>]*>(.*?)</text>", (tmp_path / f"{figure}.svg").read_text()))
        assert f"my $model$ (T = 41, {read.get(figure, 3)} sequences) on some.txt" in words, figure


def test_when_the_time_ends_between_cuts_the_figures_are_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from inheritune.report.profile_figures import save_figures

    for allowed in (16, 22, 30, 40, 90):  # looks at the clock, of which each pass through a block takes one
        clock = iter([0.0] + [1.0] * allowed + [99.0] * 999)
        monkeypatch.setattr(
            "inheritune.diagnosis.deadline.time", SimpleNamespace(monotonic=lambda clock=clock: next(clock))
        )
        profile = diagnose(families.reference("llama"), TOKENS_BT, untrained=False, minutes=1)
        assert profile.curves is not None and profile.curves.left_out
        assert (profile.curves.measured > 0) == (allowed > 20)
        assert Profile.model_validate_json(profile.model_dump_json()) == profile and str(profile)
        assert len(save_figures(profile.model_dump(), tmp_path, {})) == 8
