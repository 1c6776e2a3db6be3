"""A whole diagnosis of tiny models: measures against direct computation, curves, suggestion, and what it leaves alone."""

import copy
import json
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import families
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import BEGIN, VOCABULARY, untrained_model, with_begin
from torch import nn
from transformers import AutoModelForCausalLM, GPTNeoConfig, MistralConfig, PreTrainedTokenizerFast

from inheritune import DataError, InputError, ModelError, Profile, diagnose
from inheritune.decoder.anatomy import anatomy
from inheritune.decoder.kinds import window_at
from inheritune.diagnosis import measuring
from inheritune.diagnosis.contrasts import fresh
from inheritune.diagnosis.curves import passes_of_curves
from inheritune.diagnosis.diagnose import forget
from inheritune.diagnosis.gradients import gradient_norms
from inheritune.diagnosis.meanmaps import telling_heads
from inheritune.diagnosis.sequences import unpadded
from inheritune.diagnosis.statistics import probability_below, standard_error, wilson
from inheritune.diagnosis.suggestion import LARGEST_RISE, suggest
from inheritune.diagnosis.text import spread_windows
from inheritune.diagnosis.watch import watch
from inheritune.records.profile import Curves, Cut, schema_text
from inheritune.report.profile_figures import influence, rank_and_mass
from inheritune.report.profile_table import cheapest_cuts, table_lines
from inheritune.report.words import about

TOKENS_NT = torch.randint(3, 96, (5, 32), generator=torch.Generator().manual_seed(0))
LAYERS = 6


@pytest.fixture(scope="module")
def profile() -> Profile:
    return diagnose(families.reference("llama"), TOKENS_NT, gradients=True, other_lengths=[TOKENS_NT[:, :16]])


def loss_of(model: nn.Module, tokens_NT: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(tokens_NT, use_cache=False).logits
    return nn.functional.cross_entropy(logits[:, :-1].mT, tokens_NT[:, 1:], reduction="none").mean(1).double()


def without(model: nn.Module, blocks: list[int]) -> nn.Module:
    cut = copy.deepcopy(model)
    cut.model.layers = nn.ModuleList([cut.model.layers[i] for i in blocks])
    cut.config.num_hidden_layers = len(blocks)
    return cut


def test_influence_and_angles_are_taken_before_the_final_norm(profile: Profile) -> None:
    model, states = families.reference("llama"), []
    hooks = [block.register_forward_hook(lambda _m, _i, out: states.append(out)) for block in model.model.layers]
    hooks.append(model.model.layers[0].register_forward_pre_hook(lambda _m, args: states.append(args[0])))
    with torch.no_grad():
        model(TOKENS_NT, use_cache=False)
    for hook in hooks:
        hook.remove()
    for layer in profile.layers:
        cosine = nn.functional.cosine_similarity(states[layer.index], states[layer.index + 1], dim=-1)
        assert layer.influence == pytest.approx(1 - cosine.mean().item(), abs=1e-6)
    cosine = nn.functional.cosine_similarity(states[1], states[4], dim=-1)
    assert profile.angular[2][1] == pytest.approx((cosine.arccos() / np.pi).mean().item(), abs=1e-5)
    assert [len(row) for row in profile.angular] == [6, 5, 4, 3, 2, 1]


def test_curves_are_the_losses_of_models_so_cut(profile: Profile) -> None:
    model, curves = families.reference("llama"), profile.curves
    assert curves is not None and curves.whole_loss == pytest.approx(loss_of(model, TOKENS_NT).mean().item(), abs=1e-5)
    for cut in (*curves.first, *curves.run[::2], *curves.scattered[::2]):
        losses_N = loss_of(without(model, cut.blocks), TOKENS_NT)
        rise_N = losses_N - loss_of(model, TOKENS_NT)
        assert cut.loss == pytest.approx(losses_N.mean().item(), abs=1e-5)
        assert cut.rise == pytest.approx(rise_N.mean().item(), abs=1e-5)
        assert cut.rise_se == pytest.approx(rise_N.std().item() / 5**0.5, abs=1e-5)
        assert cut.removed == LAYERS - len(cut.blocks)
    for layer in profile.layers:
        rest = [i for i in range(LAYERS) if i != layer.index]
        assert layer.without_loss == pytest.approx(loss_of(without(model, rest), TOKENS_NT).mean().item(), abs=1e-5)
        first = loss_of(without(model, list(range(layer.index + 1))), TOKENS_NT)
        assert layer.exit_loss == pytest.approx(first.mean().item(), abs=1e-5)


def test_the_curve_costs_less_than_four_stack_passes_a_layer(profile: Profile) -> None:
    """And about as many as a plan counts with, which does not know where runs begin and what scattered removals share."""
    curves = profile.curves
    assert curves is not None and curves.block_passes <= 4 * LAYERS * LAYERS
    passes, cuts = passes_of_curves(LAYERS)
    assert passes == pytest.approx(curves.block_passes, rel=0.2) and curves.measured <= cuts <= 1.4 * curves.measured


def test_the_best_single_removal_is_found(profile: Profile) -> None:
    assert profile.curves is not None
    assert profile.curves.run[0].loss == min(layer.without_loss or 0 for layer in profile.layers)


def test_figures_name_their_lines_and_their_layers(profile: Profile) -> None:
    ranks, turns = rank_and_mass(profile.model_dump()), influence(profile.model_dump())
    named = [text.get_text() for text in ranks.legends[0].get_texts()]
    assert named[1:3] == ["untrained weights, T = 32, 5 sequences", "T = 16, 5 sequences"] and "T = 32" in named[0]
    assert named[3:] == ["band: one standard error"]
    assert [axes.get_xlabel() for axes in ranks.axes] == ["", "layer"]
    said = " ".join(ranks.axes[1].texts[0].get_text().split())
    assert said.startswith("At rank 1 one direction holds 90% of") and not profile.plot(caveat=False).axes[1].texts
    assert turns.axes[-1].get_xlabel() == "layer"


def test_a_loss_at_chance_is_said_and_no_other(profile: Profile) -> None:
    by_chance = profile.model_copy(update={"at_chance": True, "chance_loss": 4.564})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORCE_COLOR", "1")
        assert "\x1b" not in str(profile), "a text is no terminal"
    assert "at chance (a" not in str(profile.model_copy(update={"at_chance": False}))
    assert "at chance (a guess's is 4.564)" in " ".join(str(by_chance).split())


def test_means_and_errors_are_over_sequences(profile: Profile) -> None:
    one_by_one = [
        diagnose(families.reference("llama"), row[None], curve_sequences=0, untrained=False) for row in TOKENS_NT
    ]
    for name in ("rank", "mass", "entropy", "output", "first_key", "previous", "heaviest_key"):
        values = np.array([getattr(one.layers[3].heads[1], name) for one in one_by_one])
        head = profile.layers[3].heads[1]
        assert getattr(head, name) == pytest.approx(values.mean(), rel=1e-5)
        assert getattr(head, f"{name}_se") == pytest.approx(values.std(ddof=1) / 5**0.5, rel=1e-3, abs=1e-7)
    layer = profile.layers[3]
    assert layer.max_rank == max(head.rank for head in layer.heads)
    assert layer.mass == pytest.approx(np.mean([head.mass for head in layer.heads]))


def test_padding_is_never_counted(profile: Profile) -> None:
    padded = torch.cat([torch.zeros(5, 7, dtype=torch.long), TOKENS_NT, torch.zeros(5, 3, dtype=torch.long)], 1)
    mask = torch.zeros_like(padded)
    mask[:, 7:-3] = 1
    again = diagnose(families.reference("llama"), padded, attention_mask=mask, untrained=False)
    assert [layer.heads[0].rank for layer in again.layers] == [layer.heads[0].rank for layer in profile.layers]
    assert again.curves is not None and profile.curves is not None
    assert again.loss == profile.loss and again.curves.first == profile.curves.first


def test_tokens_are_taken_from_whatever_holds_them(profile: Profile) -> None:
    """A tensor of an accelerator cannot become an array of numpy: neither can one of the device `meta`."""
    one = torch.ones(1, 4, dtype=torch.long, device="meta")
    with pytest.raises(RuntimeError, match="meta"):  # its ids are asked for, and nothing before that
        unpadded(families.reference("llama"), one, None)
    for tokens in (TOKENS_NT, TOKENS_NT.numpy(), TOKENS_NT.tolist(), list(TOKENS_NT), TOKENS_NT.int()):
        rows = unpadded(families.reference("llama"), tokens, None)
        assert torch.equal(torch.stack(rows), TOKENS_NT)


def test_sequences_of_several_lengths_are_each_measured_whole() -> None:
    rows = [TOKENS_NT[0], TOKENS_NT[1, :20], TOKENS_NT[2]]
    profile = diagnose(families.reference("gpt2"), rows, untrained=False)
    assert (profile.sequences, profile.shortest, profile.longest, profile.tokens) == (3, 20, 32, 84)
    assert profile.loss == pytest.approx(
        np.mean([loss_of(families.reference("gpt2"), r[None]).item() for r in rows]), abs=1e-5
    )


def test_no_more_than_one_batch_of_one_layers_maps_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    plain = measuring._Collector.saw_map

    def counting(self: measuring._Collector, layer: int, maps_BHTT: torch.Tensor) -> None:
        sizes.append(maps_BHTT.shape[0])
        plain(self, layer, maps_BHTT)

    monkeypatch.setattr(measuring._Collector, "saw_map", counting)
    monkeypatch.setattr(measuring, "BATCH_BYTES", 4 * 7 * 32 * 32)
    diagnose(families.reference("llama"), TOKENS_NT, curve_sequences=0, untrained=False)
    assert max(sizes) == 1 and len(sizes) == 5 * LAYERS


def test_the_model_is_left_as_it_was() -> None:
    model = copy.deepcopy(families.reference("gpt2")).train()
    model.transformer.h[0].mlp.c_fc.weight.grad = torch.ones_like(model.transformer.h[0].mlp.c_fc.weight)
    model.transformer.h[1].requires_grad_(False)
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    diagnose(model, TOKENS_NT, gradients=True)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(module.training for module in model.modules())
    grads = {name for name, p in model.named_parameters() if p.grad is not None}
    assert grads == {"transformer.h.0.mlp.c_fc.weight"}
    assert not any(p.requires_grad for p in model.transformer.h[1].parameters())


@pytest.mark.parametrize("family", ["qwen3_next", "lfm2", "jamba", "mamba"])
def test_layers_without_softmax_attention_are_said_to_be_so_and_measured(family: str) -> None:
    profile = diagnose(families.reference(family), TOKENS_NT, untrained=False)
    other = [layer for layer in profile.layers if layer.kind == "no softmax attention"]
    assert len(other) == {"qwen3_next": 4, "lfm2": 3, "jamba": 3, "mamba": 6}[family]
    for layer in other:
        assert layer.max_rank is None and layer.lazy is None and layer.heads == []
        assert layer.influence > 0 and layer.without_loss is not None and layer.exit_loss is not None
    assert "-" in str(profile)


def test_layers_that_slide_say_how_far_they_see() -> None:
    profile = diagnose(families.reference("gemma3_text"), TOKENS_NT, untrained=False)
    config = families.reference("gemma3_text").config
    assert {"sliding_attention", "full_attention"} == set(config.layer_types)
    for layer, kind in zip(profile.layers, config.layer_types, strict=True):
        slides = kind == "sliding_attention"
        assert layer.kind == ("sliding attention" if slides else "softmax attention")
        assert layer.window == (config.sliding_window if slides else None)
    text = str(profile)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "sees" in text and rank_and_mass(profile.model_dump()).legends[0].get_texts()[-1].get_text().startswith(
        "full attention"
    )


def test_windows_are_read_off_the_config() -> None:
    assert (
        window_at(MistralConfig(sliding_window=9), 0) == 9 and window_at(MistralConfig(sliding_window=None), 0) is None
    )
    neo = GPTNeoConfig(attention_types=[[["global", "local"], 1]], num_layers=2, window_size=7)
    assert [window_at(neo, 0), window_at(neo, 1)] == [None, 7]
    assert window_at(families.reference("llama").config, 0) is None


@pytest.mark.parametrize(
    ("family", "query", "key"),
    [("llama", "self_attn.q_proj", "self_attn.k_proj"), ("opt", "self_attn.q_proj", "self_attn.k_proj")],
)
def test_gradient_norms_add_up_to_the_matrix_s(family: str, query: str, key: str) -> None:
    model = copy.deepcopy(families.reference(family))
    norms = gradient_norms(model, list(TOKENS_NT))
    model.zero_grad()
    logits = model(TOKENS_NT, use_cache=False).logits
    nn.functional.cross_entropy(logits[:, :-1].mT, TOKENS_NT[:, 1:]).backward()
    block = next(m for n, m in model.named_modules() if n.endswith("layers.2"))
    for name, found in zip((query, key), norms[2] or (), strict=True):
        whole = block.get_submodule(name).weight.grad.norm().item()
        assert np.linalg.norm(found) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "phi3", "gpt_neox", "bloom"])
def test_fused_gradients_are_split_into_those_of_queries_and_of_keys(family: str) -> None:
    """Oracle: the loss is the same if one head's queries are turned and its keys with them, so that dL/dW_Q . W_Q sums over
    a head to the same as dL/dW_K . W_K, biases included; dL/dW_V . W_V does not."""
    model = copy.deepcopy(families.reference(family))
    config, found = model.config, gradient_norms(model, [TOKENS_NT[0]])
    tokens_1T = TOKENS_NT[:1]
    model.zero_grad()
    logits = model(tokens_1T, use_cache=False).logits
    nn.functional.cross_entropy(logits[:, :-1].mT, tokens_1T[:, 1:]).backward()
    block, heads = anatomy(model).blocks[2], config.num_attention_heads
    name, fused = next(
        (name, module)
        for name, module in block.named_modules()
        if name.endswith(("c_attn", "qkv_proj", "query_key_value"))
    )
    turned = (lambda tensor: tensor.T) if family == "gpt2" else (lambda tensor: tensor)
    rows, weights = turned(fused.weight.grad), turned(fused.weight.detach())
    biased = fused.bias is not None
    if biased:
        rows = torch.cat([rows, fused.bias.grad[:, None]], 1)
        weights = torch.cat([weights, fused.bias.detach()[:, None]], 1)
    interleaved = "query_key_value" in name
    parts = rows.unflatten(0, (heads, 3, -1)).unbind(1) if interleaved else by_parts(rows, config)
    own = weights.unflatten(0, (heads, 3, -1)).unbind(1) if interleaved else by_parts(weights, config)
    products = [(grad * weight).sum((1, 2)) for grad, weight in zip(parts, own, strict=True)]
    if len(products[0]) == len(products[1]):
        torch.testing.assert_close(products[0], products[1], atol=1e-6, rtol=1e-3)
        assert not torch.allclose(products[0], products[2], atol=1e-6, rtol=1e-3)
    for part, norms in zip(parts, found[2] or (), strict=False):
        matrix = part[..., :-1] if biased else part
        assert norms == pytest.approx(matrix.flatten(1).norm(dim=1).tolist(), rel=1e-4)


def by_parts(rows: torch.Tensor, config: Any) -> list[torch.Tensor]:
    """Queries, keys and values of one matrix that holds them one after the other, by head."""
    heads = config.num_attention_heads
    shared = getattr(config, "num_key_value_heads", None) or heads
    width = len(rows) // (heads + 2 * shared)
    return [part.unflatten(0, (-1, width)) for part in rows.split([heads * width, shared * width, shared * width])]


def test_a_profile_reads_back_equal_and_fits_its_schema(profile: Profile, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.json")
    assert Profile.load(tmp_path / "profile.json") == profile
    shipped = resources.files("inheritune.schemas").joinpath("profile.schema.json").read_text(encoding="utf-8")
    assert shipped == schema_text()
    assert set(json.loads((tmp_path / "profile.json").read_text())) == set(json.loads(shipped)["properties"])


@pytest.mark.parametrize("content", ["", "{}", '{"model": 1}', "[1, 2"])
def test_what_is_no_profile_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(content)
    with pytest.raises(InputError, match="profile"):
        Profile.load(tmp_path / "profile.json")
    with pytest.raises(InputError):
        Profile.load(tmp_path / "absent.json")


def test_a_profile_prints_as_a_table_and_shows_as_a_picture(profile: Profile) -> None:
    text = str(profile)
    assert (
        "MaxRank" in text
        and "No depth is suggested: the model is at chance" in text
        and f"{profile.layers[5].max_rank:.1f}" in text
    )
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert profile._repr_png_().startswith(b"\x89PNG")


def test_the_table_ends_with_the_whole_s_loss_on_the_sequences_of_the_cuts() -> None:
    profile = diagnose(families.reference("llama"), TOKENS_NT, curve_sequences=2, untrained=False)
    text, whole = str(profile), loss_of(families.reference("llama"), TOKENS_NT[:2]).mean().item()
    assert abs(whole - profile.loss) > 1e-3
    row = next(line.split() for line in text.splitlines() if line.split()[:1] == ["whole"])
    assert row == ["whole", f"{whole:.2f}", f"{whole:.3f}"] and "on 2 sequences" in " ".join(text.split())


def test_a_model_at_chance_is_said_to_be_so_and_left_whole(profile: Profile) -> None:
    assert profile.at_chance and profile.chance_loss == pytest.approx(np.log(96))
    assert (profile.suggestion.depth, profile.suggestion.blocks) == (
        None,
        None,
    ) and "at chance" in profile.suggestion.reason
    assert "at chance" in str(profile).split("layer")[0]
    knowing = profile.model_copy(update={"at_chance": False})
    assert "at chance" not in str(knowing).split("layer")[0]


def test_the_telling_heads_are_three_whatever_ties(profile: Profile) -> None:
    def with_ranks(ranks: list[list[float]]) -> Profile:
        layers = [
            layer.model_copy(update={"heads": [layer.heads[0].model_copy(update={"rank": rank}) for rank in row]})
            for layer, row in zip(profile.layers, ranks, strict=False)
        ]
        return profile.model_copy(update={"layers": layers})

    found = telling_heads(with_ranks([[1, 9], [1, 4], [1, 4]]))
    assert found == {
        "widest: layer 0, head 1, k* 9.0": (0, 1),
        "middle: layer 1, head 1, k* 4.0": (1, 1),
        "laziest: layer 2, head 0, k* 1.0": (2, 0),
    }
    assert len(set(telling_heads(with_ranks([[1, 1], [1, 1]])).values())) == 3
    assert list(telling_heads(with_ranks([[2]])).values()) == [(0, 0)] and telling_heads(with_ranks([[], []])) == {}


def test_every_stage_is_told_from_its_start_to_its_end() -> None:
    told: dict[str, list[tuple[int, int]]] = {}
    diagnose(
        families.reference("llama"),
        TOKENS_NT,
        gradients=True,
        other_lengths=[TOKENS_NT[:2, :16]],
        tell=lambda stage, done, total: told.setdefault(stage, []).append((done, total)),
    )
    assert [stage.split(",")[0] for stage in told] == [
        "Maps and losses of 5 sequences",
        "Maps of 5 sequences",
        "Maps of 2 sequences",
        "Losses of cuts on 5 sequences",
        "Gradients on 5 sequences",
    ]
    for counts in told.values():
        done, totals = zip(*counts, strict=True)
        assert done[0] == 0 and list(done) == sorted(done) and set(totals) == {done[-1]}


def test_an_answer_comes_from_a_few_sequences_before_all_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = diagnose(families.reference("llama"), TOKENS_NT, untrained=False)
    monkeypatch.setattr("inheritune.diagnosis.diagnose.FIRST_LOOK", 2)
    seen: list[Profile] = []
    parted = diagnose(families.reference("llama"), TOKENS_NT, untrained=False, seen=seen.append)
    assert [(one.sequences, one.curves is None) for one in seen] == [(2, True), (5, True), (5, False)]
    first = diagnose(families.reference("llama"), TOKENS_NT[[0, 3]], curve_sequences=0, untrained=False)
    assert [layer.max_rank for layer in seen[0].layers] == [layer.max_rank for layer in first.layers]
    assert [[head.rank for head in layer.heads] for layer in parted.layers] == [
        [head.rank for head in layer.heads] for layer in whole.layers
    ]
    assert parted.loss == pytest.approx(whole.loss, abs=1e-6)
    np.testing.assert_allclose(parted.angular[0], whole.angular[0], atol=1e-6)


@pytest.mark.parametrize("stop", [2, 4])
def test_what_is_measured_of_maps_is_not_measured_again_after_a_stop(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of one sequence; a stop in the first look, of three, and one in the second."""
    monkeypatch.setattr(measuring, "BATCH_BYTES", 1)
    monkeypatch.setattr("inheritune.diagnosis.diagnose.FIRST_LOOK", 3)
    model, passes = copy.deepcopy(families.reference("gemma3_text")), list[int]()
    model.register_forward_pre_hook(lambda *_: passes.append(1))
    whole = diagnose(model, TOKENS_NT, untrained=False, curve_sequences=0)

    def breaking(_stage: str, done: int, _of: int) -> None:
        if done == stop:
            raise KeyboardInterrupt

    def measured(**how: Any) -> tuple[Profile, int]:
        passes.clear()
        found = diagnose(model, TOKENS_NT, untrained=False, curve_sequences=0, kept=tmp_path, **how)
        return found.model_copy(update={"seconds": whole.seconds}), len(passes)

    with pytest.raises(KeyboardInterrupt):
        measured(tell=breaking)
    with (tmp_path / "maps.jsonl").open("a") as file:
        file.write('{"heads": [')  # a kill in the middle of a line
    assert measured() == (whole, 1 + 5 - stop)  # the first, by which one sees whether the model is the same
    assert measured() == (whole, 1)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1.5)
    changed, again = measured()
    assert again == 5 and changed.loss != whole.loss
    assert measured(threshold=0.8)[1] == 5
    forget(tmp_path)
    assert not list(tmp_path.iterdir())


def test_contrasts_are_there(profile: Profile) -> None:
    assert [(one.name, one.length) for one in profile.contrasts] == [("untrained", 32), ("trained", 16)]
    assert all(rank is not None for one in profile.contrasts for rank in one.max_rank)


def test_contrasts_are_those_of_whole_passes_and_no_head_is_called_for_them() -> None:
    """Oracle: the same weights, drawn anew, in passes to the end."""
    model, called = copy.deepcopy(families.reference("llama")), list[int]()
    model.lm_head.register_forward_hook(lambda *_: called.append(1))
    profile = diagnose(model, TOKENS_NT, curve_sequences=0, other_lengths=[TOKENS_NT[:2, :16]])
    assert len(called) == 1  # the five sequences whose losses are measured, at once
    torch.manual_seed(0)
    fresh = AutoModelForCausalLM.from_config(model.config)
    for one, other, tokens_NT in zip(profile.contrasts, (fresh, model), (TOKENS_NT, TOKENS_NT[:2, :16]), strict=True):
        whole = diagnose(other, tokens_NT, curve_sequences=0, untrained=False)
        assert (one.max_rank, one.mass) == ([x.max_rank for x in whole.layers], [x.mass for x in whole.layers])


def slow(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[float]]:
    """A model and a clock that goes on by a second with each block's pass, of untrained weights too, which take ten to draw."""
    now, drawn = [0.0], fresh

    def ticking(model: Any, seconds: float = 0.0) -> Any:
        now[0] += seconds
        for block in anatomy(model).blocks:
            block.register_forward_hook(lambda *_: now.__setitem__(0, now[0] + 1))
        return model

    monkeypatch.setattr(measuring, "BATCH_BYTES", 1)
    monkeypatch.setattr("inheritune.diagnosis.contrasts.fresh", lambda model: ticking(drawn(model), 10))
    for module in ("deadline", "kept_measures"):
        monkeypatch.setattr(f"inheritune.diagnosis.{module}.time", SimpleNamespace(monotonic=lambda: now[0]))
    return ticking(copy.deepcopy(families.reference("llama"))), now


def test_the_minutes_are_kept_to_a_block_s_pass_and_the_answer_always_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for untrained weights, 30 for maps on them and 30 for other maps; 12 for the whole and 9 or more cuts."""
    model, now = slow(monkeypatch)
    seen: list[tuple[float, Profile]] = []

    def take(minutes: float | None) -> tuple[Profile, float]:
        seen.clear()
        found = diagnose(
            model,
            TOKENS_NT,
            other_lengths=[TOKENS_NT[:, :16]],
            minutes=minutes,
            seen=lambda profile: seen.append((now[0], profile)),
        )
        return found, now[0] - seen[0][0]

    whole, took = take(None)
    assert whole.curves is not None and whole.left_out == [] and whole.curves.left_out == 0
    for seconds in (0, 7, 22, 33, 60, 84, 120, 139, 150, 160, 180, 220, 2 * took):
        found, spent = take(seconds / 60)
        assert spent <= seconds + 1 or (seconds / 2 < 10 and spent <= 10), seconds
        assert [layer.heads for layer in found.layers] == [layer.heads for layer in whole.layers]
        left = "; ".join(found.left_out)
        for one in whole.contrasts:
            kept = next((each for each in found.contrasts if each.name == one.name), None)
            named = {"untrained": "untrained weights", "trained": "T = 16"}[one.name]
            assert kept == one or named in left
            assert kept is None or f"on {5 - kept.sequences} of 5 sequences" in left or kept == one
        curves = found.curves
        assert (curves is None) == ("losses of cuts" in left) and left in " ".join(str(found).split())
        if curves is not None:
            assert curves.first == whole.curves.first[: len(curves.first)]
            assert (curves.left_out > 0) == curves.cut_short
        assert (found.left_out == [] and curves == whole.curves) == (seconds >= took), seconds


def test_contrasts_have_half_of_the_minutes_and_cuts_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence takes six seconds, the untrained weights ten: of two times 70 seconds, of 64, of 46, of 15, and of 14."""
    model, _ = slow(monkeypatch)
    for seconds, read in ((140, [5, 5]), (128, [5, 4]), (92, [5, 1]), (30, [1]), (28, [])):
        profile = diagnose(model, TOKENS_NT, other_lengths=[TOKENS_NT], minutes=seconds / 60)
        assert [one.sequences for one in profile.contrasts] == read


def test_a_second_length_is_begun_only_if_it_seems_to_end_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sequence of 16 tokens takes six seconds: one of 32 is taken to need 24, of two times 24 seconds or of 23."""
    model, now = slow(monkeypatch)
    for seconds, read in ((48, 4), (46, 0)):
        begun = now[0]
        profile = diagnose(
            model, TOKENS_NT[:, :16], other_lengths=[TOKENS_NT[:4]], untrained=False, minutes=seconds / 60, curve_sequences=0
        )  # fmt: skip
        assert sum(one.sequences for one in profile.contrasts) == read and now[0] - begun == 6 * (5 + read)
        assert profile.left_out == ([] if read else ["maps at T = 32 (no time)"])


def test_what_the_cuts_that_were_left_out_would_take_is_about_what_they_then_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A block's pass takes a second of a clock that nothing else moves."""
    model, now = slow(monkeypatch)
    monkeypatch.setattr("inheritune.diagnosis.curves.time", SimpleNamespace(monotonic=lambda: now[0]))
    ends: list[float] = []

    def take(minutes: float | None) -> Profile:
        found = diagnose(model, TOKENS_NT, untrained=False, minutes=minutes)
        ends.append(now[0])
        return found

    begun = now[0]
    whole, few = take(None), take(65 / 60)
    assert whole.curves is not None and whole.curves.seconds_left is None and "give more" not in str(whole)
    assert few.curves is not None and few.curves.left_out > 2 and few.curves.seconds_left is not None
    left = (ends[0] - begun) - (ends[1] - ends[0])
    assert 0.5 * left < few.curves.seconds_left < 2 * left, (left, few.curves)
    assert f"the cuts that were left out take about {about(few.curves.seconds_left)}." in " ".join(str(few).split())


def test_where_a_second_model_has_no_room_its_contrast_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inheritune.diagnosis.contrasts.free_memory", lambda device: 1000)
    profile = diagnose(families.reference("llama"), TOKENS_NT, other_lengths=[TOKENS_NT[:2]], curve_sequences=0)
    assert [one.name for one in profile.contrasts] == ["trained"]
    assert profile.left_out == ["maps of untrained weights (no memory for a second model of 0.0 GB)"]


@pytest.mark.parametrize("stop", ["untrained", "T = 16"])
def test_contrasts_are_not_measured_again_after_a_stop(
    stop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop at the end of the named stage loses that contrast alone; another model's are not taken."""
    model, measured = copy.deepcopy(families.reference("gpt2")), set[str]()
    how: Any = {"other_lengths": [TOKENS_NT[:2, :16], TOKENS_NT[:2, :8]], "curve_sequences": 0, "kept": tmp_path}
    whole = diagnose(model, TOKENS_NT, **{**how, "kept": None})

    def breaking(stage: str, done: int, of: int) -> None:
        if stop in stage and done == of:
            raise KeyboardInterrupt

    def counted(stage: str, *_: int) -> None:
        measured.add(stage)

    def again(**more: Any) -> Profile:
        measured.clear()
        return diagnose(model, TOKENS_NT, tell=counted, **how, **more).model_copy(update={"seconds": whole.seconds})

    with pytest.raises(KeyboardInterrupt):
        diagnose(model, TOKENS_NT, tell=breaking, **how)
    assert again() == whole and len(measured) == 1 + {"untrained": 3, "T = 16": 2}[stop]
    assert again() == whole and len(measured) == 1
    again(threshold=0.8)
    assert len(measured) == 4
    with torch.no_grad():
        model.transformer.h[0].mlp.c_proj.weight.mul_(1.5)
    assert again().contrasts[0] == whole.contrasts[0] and len(measured) == 4
    forget(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([[1, 2, 999]], "999"),
        ([[1, -2, 5]], "-2"),
        ([[1]], "at least 2"),
        ([], "no tokens"),
        ([[0.5, 1.5]], "integer"),
        (np.ones((1, 65), dtype=int), "64 positions"),
    ],
)
def test_tokens_that_cannot_be_read_are_refused(tokens: list[list[int]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        diagnose(families.reference("llama"), tokens)


def test_text_is_read_as_the_command_reads_it_by_the_models_own_tokenizer_or_one_that_is_given(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], tmp_path: Path
) -> None:
    """Oracle: the tokens that the windows of the text are, and the begin of text that no loss asks for."""
    words, model = with_begin(tokenizer, f"{BEGIN} <second> $A"), untrained_model("llama", vocab_size=VOCABULARY + 2)
    (tmp_path / "some.txt").write_text("\n\n".join(texts[:8]))
    how = {"curve_sequences": 0, "untrained": False}
    rows_NT = spread_windows(str(tmp_path / "some.txt"), words, 16, 5)
    wanted = diagnose(model, rows_NT, unasked=1, **how)

    def same(profile: Profile) -> bool:
        return (profile.layers, profile.loss) == (wanted.layers, wanted.loss)

    assert same(diagnose(model, text=tmp_path / "some.txt", tokenizer=words, length=16, sequences=5, **how))
    model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    for named in (str(tmp_path / "model"), AutoModelForCausalLM.from_pretrained(tmp_path / "model")):
        assert same(diagnose(named, text=str(tmp_path / "some.txt"), length=16, sequences=5, **how))
    assert same(diagnose(tmp_path / "model", rows_NT, unasked=1, **how))
    assert diagnose("bundled:laptop", rows_NT, **how).model == "bundled:laptop", "as it was named, not where it lies"
    listed = spread_windows(texts[:8], words, 16, 5)
    assert diagnose(model, text=texts[:8], tokenizer=words, length=16, sequences=5, **how).loss == pytest.approx(
        diagnose(model, listed, unasked=1, **how).loss, rel=1e-9
    )
    assert listed.flatten().tolist()[2:8] == words(texts[0], add_special_tokens=False)["input_ids"][:6]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "tokens, or text: give one of both"),
        ({"tokens": TOKENS_NT, "text": ["one"]}, "tokens, or text: give one of both"),
        ({"text": ["one"], "attention_mask": TOKENS_NT}, "tokens, or text: give one of both"),
        ({"tokens": TOKENS_NT, "attention_mask": TOKENS_NT[:, :5]}, "another shape"),
        ({"tokens": "a text"}, "this is text: give it as text="),
        ({"tokens": ["one", "two"]}, "this is text: give it as text="),
        ({"text": ["one"]}, "does not say where its tokenizer is: give tokenizer="),
        ({"text": "one line\nand another"}, "give it in a list"),
        ({"text": TOKENS_NT}, "give ids as tokens"),
    ],
)
def test_what_is_no_text_or_no_tokens_is_refused_in_a_sentence(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        diagnose(families.reference("llama"), **asked)


def test_a_model_that_is_none_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="does not exist"):
        diagnose("./no-model", TOKENS_NT)
    with pytest.raises(ModelError, match="loaded model is wanted here"):
        diagnose(None, TOKENS_NT)


def test_no_loss_asks_for_a_begin_of_several_tokens() -> None:
    """Oracle: the mean of the losses behind it, and its gradient."""
    model = copy.deepcopy(families.reference("llama"))
    profile = diagnose(model, TOKENS_NT, unasked=2, gradients=True, untrained=False)
    losses_NT = nn.functional.cross_entropy(model(TOKENS_NT).logits[:, :-1].mT, TOKENS_NT[:, 1:], reduction="none")
    assert profile.loss == pytest.approx(losses_NT[:, 2:].mean().item(), abs=1e-5)
    assert profile.curves is not None and profile.curves.whole_loss == pytest.approx(profile.loss, abs=1e-5)
    losses_NT[:, 2:].mean().backward()
    whole = model.model.layers[1].self_attn.q_proj.weight.grad.norm().item()
    assert np.linalg.norm([head.query_gradient for head in profile.layers[1].heads]) == pytest.approx(whole, rel=1e-4)
    with pytest.raises(DataError, match="3 tokens: at least 4"):
        diagnose(model, TOKENS_NT[:, :3], unasked=2)


def test_a_threshold_outside_0_and_1_and_weights_that_give_nan_are_refused() -> None:
    with pytest.raises(InputError, match="threshold"):
        diagnose(families.reference("llama"), TOKENS_NT, threshold=1.5)
    broken = copy.deepcopy(families.reference("llama"))
    with torch.no_grad():
        broken.model.layers[3].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="not finite"):
        diagnose(broken, TOKENS_NT)


def cut(blocks: list[int], rise: float) -> Cut:
    return Cut(removed=4 - len(blocks), blocks=blocks, loss=3 + rise, rise=rise, rise_se=0.01)


def test_the_suggestion_is_the_smallest_depth_that_starts_near(profile: Profile) -> None:
    near, far = LARGEST_RISE - 0.05, LARGEST_RISE + 0.05
    curves = Curves(
        whole_loss=3,
        first=[cut([0, 1, 2], far), cut([0, 1], far), cut([0], 9)],
        run=[cut([0, 1, 3], near / 2), cut([0, 3], near), cut([3], 9)],
        scattered=[cut([0, 1, 3], near / 2), cut([1, 3], near / 2), cut([0], 9)],
        sequences=5,
        tokens=160,
        measured=7,
        places=4,
        left_out=2,
        block_passes=0,
        head_passes=0,
    )
    suggestion = suggest(profile.layers[:4], curves, 3, 6)
    assert (suggestion.depth, suggestion.blocks) == (2, [1, 3])
    assert f"without blocks 0,2 the loss rises by {near / 2:.3f} nats" in suggestion.reason
    assert suggestion.rests_on == (
        "losses of 7 cuts, none of them trained, on 5 sequences of 32 tokens, each at 4 of them or more; 2 others had no time"
    )
    nowhere = curves.model_copy(update={"run": curves.first, "scattered": curves.first})
    for measured, loss in ((nowhere, 3), (None, 3), (curves, 5.41)):
        none = suggest(profile.layers[:4], measured, loss, 6)
        assert (none.depth, none.blocks) == (None, None)


def test_the_least_costly_cut_of_each_number_is_told_with_the_command_that_makes_it(profile: Profile) -> None:
    curves = Curves(
        whole_loss=3, first=[cut([0, 1, 2], 0.9), cut([0, 1], 2)], run=[cut([0, 2, 3], 0.1), cut([0, 3], 0.4)],
        scattered=[cut([0, 2, 3], 0.1), cut([1, 2], 0.3)], sequences=5, block_passes=0, head_passes=0,
    )  # fmt: skip
    suggestion = profile.suggestion.model_copy(update={"depth": 3, "blocks": [0, 2, 3]})
    changed = {
        "model": "my model",
        "depth": 4,
        "layers": profile.layers[:4],
        "curves": curves,
        "suggestion": suggestion,
    }
    told = list(table_lines(profile.model_copy(update=changed | {"at_chance": False})))
    cuts = told.index("- 3 blocks, without 1: +0.100 nats")
    assert told[cuts + 1] == "- 2 blocks, without 0,3: +0.300 nats" and told[cuts + 2].startswith(
        "Suggested depth 3 of 4: "
    )
    assert told[-1] == "To make the suggested one: inheritune inherit 'my model' smaller --blocks 0,2-3"
    assert not list(
        cheapest_cuts(
            profile.model_copy(
                update={
                    "curves": None,
                    "suggestion": profile.suggestion.model_copy(update={"depth": None, "blocks": None}),
                }
            )
        )
    )


def test_where_only_the_first_blocks_were_tried_no_cut_is_called_the_least_costly(profile: Profile) -> None:
    """Of two blocks less, none; of one, the better of what was tried."""
    curves = Curves(
        whole_loss=3, first=[cut([0, 1, 2], 0.9), cut([0, 1], 2)], run=[cut([0, 2, 3], 0.1)], scattered=[],
        sequences=5, block_passes=0, head_passes=0,
    )  # fmt: skip
    one, none = (
        profile.model_copy(update={"depth": 4, "curves": each})
        for each in (curves, curves.model_copy(update={"run": []}))
    )
    assert list(cheapest_cuts(one))[1:] == ["- 3 blocks, without 1: +0.100 nats"]
    assert not list(cheapest_cuts(none))


def test_a_cut_is_suggested_only_if_its_error_leaves_room(profile: Profile) -> None:
    """The same rise, 0.01 below the bound, with an error of 0.009 and of 0.011."""
    for error, depth in ((0.009, 3), (0.011, None)):
        one = [Cut(removed=1, blocks=[0, 1, 2], loss=3, rise=LARGEST_RISE - 0.01, rise_se=error)]
        curves = Curves(whole_loss=3, first=one, run=one, scattered=one, sequences=5, block_passes=0, head_passes=0)
        assert suggest(profile.layers[:4], curves, 3, 6).depth == depth


@pytest.mark.parametrize(
    ("rise", "said"),
    [
        (-0.002, "falls by 0.002 nats"),
        (-0.0002, "stays as it is"),
        (0.0, "stays as it is"),
        (0.01, "rises by 0.010 nats"),
    ],
)
def test_a_suggestion_says_a_fall_as_a_fall_and_one_block_as_one(profile: Profile, rise: float, said: str) -> None:
    one = [Cut(removed=1, blocks=[1], loss=3, rise=rise, rise_se=0.01)]
    curves = Curves(
        whole_loss=3, first=one, run=one, scattered=one, sequences=1, tokens=32, block_passes=0, head_passes=0
    )
    suggestion = suggest(profile.layers[:2], curves, 3, 6)
    assert f"without block 0 the loss {said}" in suggestion.reason and "the first block alone" in suggestion.reason
    assert (
        "-0.0" not in suggestion.reason
        and "±" not in suggestion.reason
        and "1 sequence of 32 tokens" in suggestion.rests_on
    )


def test_beside_every_rank_stands_what_it_hides(profile: Profile) -> None:
    text = str(profile)
    for said in (
        "untrained",
        "T 16",
        "20% of sharp routing",
        "here T = 32, and the model reads up to 64 tokens",
        "rests on",
    ):
        assert said in " ".join(text.split()), said


def test_watching_measures_every_k_steps_and_leaves_training_alone() -> None:
    model = copy.deepcopy(families.reference("llama")).train()
    look = watch(model, TOKENS_NT[:2], every=10)
    seen = [look(step) for step in range(21)]
    assert [glance.step for glance in seen if glance] == [0, 10, 20]
    plain = diagnose(model, TOKENS_NT[:2], curve_sequences=0, untrained=False)
    assert seen[10] is not None and seen[10].max_rank == [layer.max_rank for layer in plain.layers]
    assert seen[10].lazy_heads == plain.lazy_heads and model.training


@given(st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_standard_errors_are_numpy_s(values: list[float]) -> None:
    expected = np.std(values, ddof=1) / len(values) ** 0.5
    assert standard_error(torch.tensor(values, dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-9)


def test_confidences_worked_out_by_hand() -> None:
    assert wilson(100, 100) == pytest.approx((0.9630, 1.0), abs=1e-4)
    assert wilson(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    assert probability_below(1.3, 0.1, 1.5, 10**6) == pytest.approx(0.97725, abs=2e-4)
    assert probability_below(1.0, 0, 1.5, 1) == 0.5 and probability_below(900.0, 0, 1.5, 100) == 0.0


@pytest.mark.parametrize(
    ("freedom", "t", "tail"),
    [
        (1, 12.706, 0.025),
        (2, 4.3027, 0.025),
        (3, 3.1824, 0.025),
        (7, 2.9980, 0.01),
        (8, 1.8595, 0.05),
        (30, 2.7500, 0.005),
    ],
)
def test_a_probability_is_student_s_as_the_printed_tables_have_it(freedom: int, t: float, tail: float) -> None:
    assert probability_below(1.5 - t, 1, 1.5, freedom + 1) == pytest.approx(1 - tail, abs=2e-5)
    assert probability_below(1.5 + t, 1, 1.5, freedom + 1) == pytest.approx(tail, abs=2e-5)


def test_where_all_sequences_agree_few_leave_it_open() -> None:
    """As if one of 4 or of 8 had been another by one: t of 2 at 3 degrees of freedom, and of 4 at 7."""
    assert probability_below(1.0, 0.0, 1.5, 4) == pytest.approx(0.9303, abs=1e-4)
    assert probability_below(1.0, 0.0, 1.5, 8) == pytest.approx(0.9974, abs=1e-4)
