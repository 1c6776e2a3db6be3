"""A proof is worth what it finds: each way in which a cut can be wrong fails its own check, and says where."""

import copy
import functools
import json
import math
import re

import pytest
import torch
from families import reference

from inheritune.errors import ModelError, ProofError
from inheritune.surgery import checks, in_memory
from inheritune.surgery.blockmap import BlockMap
from inheritune.surgery.by_model import grow_folder
from inheritune.surgery.commands import inherit_folder
from inheritune.surgery.in_memory import inherit
from inheritune.surgery.proof import prove
from inheritune.surgery.requests import CutRequest, GrowRequest

BLOCKS = [0, 2, 5]


def not_renumbered(model):
    model.model.layers[1].self_attn.layer_idx = 2


def wrong_kind(model):
    model.config.layer_types = ["full_attention"] * 3


def not_a_number(model):
    model.model.layers[2].mlp.up_proj.weight.data[0, 0] = float("nan")


def another_weight(model):
    model.model.layers[1].mlp.up_proj.weight.data[0] += 1.0


def untied(model):
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())


def cut_off(model):
    layer = model.model.layers[1]
    layer.mlp.forward = lambda hidden: torch.zeros_like(hidden)


@pytest.mark.parametrize(
    ("family", "harm", "check", "words"),
    [
        ("qwen3", not_renumbered, "every block knows its place", r"layers\.1\.self_attn believes to be block 2"),
        ("qwen3", not_renumbered, "cached generation equals uncached", ""),
        ("gemma2", wrong_kind, "logits equal", "position 16 of sequence 0"),
        ("qwen3", not_a_number, "every weight is a number", r"layers\.2\.mlp\.up_proj\.weight"),
        ("qwen3", another_weight, "logits equal", "position 0 of sequence 0"),
        ("qwen3", untied, "tied weights are tied", "two tensors"),
        ("llama", cut_off, "gradients reach every parameter", r"layers\.1\.mlp"),
    ],
)
def test_harm_is_found_and_named(family, harm, check, words):
    model = inherit(reference(family), BLOCKS)
    prove(model, reference(family), BLOCKS).require()
    harm(model)
    failed = [found for found in prove(model, reference(family), BLOCKS).checks if not found.passed]
    (own,) = [found for found in failed if found.name.startswith(check)]
    assert re.search(words, own.detail), own.detail


def off(model, amount, when=lambda tokens_BT: True):
    """Of all the model's logits, one in a sequence is off by this much, where `when` says so."""
    whole = model.forward

    @functools.wraps(whole)
    def forward(input_ids, *args, **kwargs):
        output = whole(input_ids, *args, **kwargs)
        if when(input_ids):
            output.logits = output.logits.clone()
            output.logits[1, -1, 7] += amount * max(1.0, output.logits.abs().max().item())
        return output

    model.forward = forward


@pytest.mark.parametrize(
    ("amount", "when", "check"),
    [
        (3e-3, lambda tokens_BT: tokens_BT.shape[1] == 1, "cached generation equals uncached"),
        (math.nan, lambda tokens_BT: tokens_BT.shape[1] == 1, "cached generation equals uncached"),
        (1e-4, lambda tokens_BT: True, "saved and loaded, it is the same"),
        (math.nan, lambda tokens_BT: True, "saved and loaded, it is the same"),
        (1e-4, lambda tokens_BT: True, "logits equal the reference's with its blocks so arranged"),
        (math.nan, lambda tokens_BT: True, "logits equal the reference's with its blocks so arranged"),
    ],
)
def test_one_logit_a_little_off_or_no_number_is_found(amount, when, check):
    model = inherit(reference("llama"), BLOCKS)
    off(model, amount, when)
    found = {each.name: each for each in prove(model, reference("llama"), BLOCKS).checks}
    assert not found[check].passed and "Logits differ" in found[check].detail


def test_one_gradient_that_is_no_number_is_found():
    model = inherit(reference("llama"), BLOCKS)
    weight = model.model.layers[1].post_attention_layernorm.weight
    weight.register_hook(lambda gradient_D: gradient_D.index_fill(0, torch.tensor([3]), math.nan))
    found = {check.name: check for check in prove(model).checks}["gradients reach every parameter"]
    assert not found.passed and "layers.1.post_attention_layernorm.weight holds NaN" in found.detail


def test_past_a_narrowed_window_one_logit_that_is_no_number_is_found():
    model = inherit(reference("mistral"), BLOCKS)
    wide_window(model)
    off(model, math.nan, lambda tokens_BT: model.config.sliding_window == 16 and tokens_BT.shape[1] == 1)
    failed = [check.name for check in prove(model).checks if not check.passed]
    assert failed == ["cached generation equals uncached, past a window narrowed from 4096 to 16 tokens"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_one_weight_that_is_no_number_is_found(value):
    model = inherit(reference("llama"), BLOCKS)
    model.lm_head.weight.data[5, 5] = value
    found = {check.name: check for check in prove(model).checks}["every weight is a number"]
    assert not found.passed and "lm_head.weight" in found.detail


@pytest.mark.parametrize("change", [1e-6, math.nan])
def test_one_weight_that_comes_back_otherwise_is_found(change, monkeypatch):
    model = inherit(reference("llama"), BLOCKS)
    load = type(model).from_pretrained.__func__

    def loaded(cls, *args, **kwargs):
        again, report = load(cls, *args, **kwargs)
        again.model.layers[2].mlp.up_proj.weight.data[3, 3] += change
        return again, report

    monkeypatch.setattr(type(model), "from_pretrained", classmethod(loaded))
    found = {check.name: check for check in prove(model).checks}["saved and loaded, it is the same"]
    assert not found.passed and "layers.2.mlp.up_proj.weight differs" in found.detail


def test_what_is_saved_and_not_asked_for_is_found():
    model = inherit(reference("llama"), BLOCKS)
    model.model.layers[0].mlp.register_parameter("spare", torch.nn.Parameter(torch.zeros(1)))
    found = {check.name: check for check in prove(model).checks}["saved and loaded, it is the same"]
    assert not found.passed and "unexpected keys" in found.detail and "mlp.spare" in found.detail


def test_a_single_block_in_place_of_another_is_found():
    """Equal in all but one small tensor."""
    model = inherit(reference("llama"), BLOCKS)
    model.model.layers[1].input_layernorm.weight.data[0] *= 1.01
    assert not prove(model, reference("llama"), BLOCKS).passed and prove(model).passed


def wide_window(model):
    """A window too wide to walk past as it is."""
    model.config.sliding_window = 4096
    for layer in model.model.layers:
        layer.self_attn.sliding_window = 4096


def test_a_wide_window_is_narrowed_and_that_is_said():
    model = inherit(reference("mistral"), BLOCKS)
    wide_window(model)
    model.config.max_position_embeddings = 8192
    checks = {check.name: check for check in prove(model).require().checks}
    assert "cached generation equals uncached, past a window narrowed from 4096 to 16 tokens" in checks
    assert model.config.sliding_window == 4096 == model.model.layers[0].self_attn.sliding_window


def test_a_window_that_the_cache_forgets_is_found_past_it(monkeypatch):
    model = inherit(reference("mistral"), BLOCKS)
    wide_window(model)
    attention = model.model.layers[1].self_attn
    whole = type(attention).forward

    def forgetful(*args, **kwargs):  # sees one token less than its window
        mask = kwargs.get("attention_mask")
        if mask is not None and model.config.sliding_window == 16 and mask.shape[-2] > 1:
            kwargs["attention_mask"] = mask.clone()
            kwargs["attention_mask"][..., 20:, 6:9] = torch.finfo(mask.dtype).min if mask.is_floating_point() else False
        return whole(attention, *args, **kwargs)

    monkeypatch.setattr(attention, "forward", forgetful)
    failed = [check.name for check in prove(model).checks if not check.passed]
    assert failed == ["cached generation equals uncached, past a window narrowed from 4096 to 16 tokens"]


def test_what_no_gradient_reaches_in_the_reference_either_is_no_fault_of_the_cut():
    model, target = copy.deepcopy(reference("llama")), inherit(reference("llama"), BLOCKS)
    for own in (model, target):
        for layer in own.model.layers:
            layer.mlp.register_parameter("spare", torch.nn.Parameter(torch.zeros(1)))
    asked = "gradients reach every parameter"
    found = {check.name: check for check in prove(target).checks}
    assert not found[asked].passed and "mlp.spare" in found[asked].detail
    found = {check.name: check for check in prove(target, model, BLOCKS).checks}
    assert found[asked].passed


def swapped(block_map):
    """The block map that puts the first place's input norm into the second, and the other way round."""
    whole = block_map.targets

    def targets(self, name, path, source=0):
        found = whole(self, name, path, source)
        other = {f"{path}.{one}.input_layernorm.weight": f"{path}.{1 - one}.input_layernorm.weight" for one in (0, 1)}
        return [other.get(own, own) for own in found]

    return targets


@pytest.fixture
def sabotaged(monkeypatch):
    """Surgery that mistakes one small tensor for another of the same shape."""
    return lambda: monkeypatch.setattr(BlockMap, "targets", swapped(BlockMap))


def test_a_sabotaged_cut_in_memory_ends_in_a_proof_error(sabotaged):
    sabotaged()
    model = inherit(reference("llama"), BLOCKS)
    with pytest.raises(ProofError, match="logits equal"):
        prove(model, reference("llama"), BLOCKS).require()


@pytest.mark.parametrize("dtype", [None, torch.float32], ids=["between files", "in memory"])
def test_a_sabotaged_cut_of_a_folder_ends_in_a_proof_error_and_no_folder(dtype, sabotaged, tmp_path):
    reference("llama").save_pretrained(tmp_path / "source")
    sabotaged()
    with pytest.raises(ProofError, match="logits equal"):
        inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest(BLOCKS, dtype=dtype))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_sabotaged_growth_ends_in_a_proof_error_and_no_folder(sabotaged, tmp_path):
    reference("llama").save_pretrained(tmp_path / "source")
    inherit_folder(tmp_path / "source", tmp_path / "cut", CutRequest([0, 2]))
    sabotaged()
    with pytest.raises(ProofError, match="logits equal"):
        grow_folder(tmp_path / "cut", tmp_path / "source", tmp_path / "grown", GrowRequest([0, 2], BLOCKS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "source"]


def test_memory_that_does_not_suffice_is_no_failed_proof(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(checks, "gradients", full)
    with pytest.raises(
        ModelError, match="'gradients reach every parameter' does not fit into memory, so nothing is proved"
    ):
        prove(inherit(reference("llama"), BLOCKS))


@pytest.mark.parametrize("harm", [1e-3, math.nan])
def test_one_number_that_assembly_gets_wrong_ends_in_a_proof_error(harm, monkeypatch):
    whole = in_memory._fill

    def fill(target, state, complete, on):
        whole(target, state, complete, on)
        target.model.layers[2].mlp.up_proj.weight.data[3, 3] += harm

    monkeypatch.setattr(in_memory, "_fill", fill)
    with pytest.raises(ProofError):
        prove(inherit(reference("llama"), BLOCKS), reference("llama"), BLOCKS).require()


def test_the_wrong_blocks_are_no_proof():
    model = inherit(reference("llama"), BLOCKS)
    with pytest.raises(ProofError, match="logits equal"):
        prove(model, reference("llama"), [0, 1, 5]).require()


def test_a_proof_leaves_the_model_as_it_was_and_is_written_down(tmp_path):
    model = inherit(reference("llama"), BLOCKS).train()
    model.model.norm.weight.requires_grad_(False)
    prove(model).save(tmp_path / "proof.json")
    assert model.training and not model.model.norm.weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    content = json.loads((tmp_path / "proof.json").read_text())
    assert content["passed"] is True
    assert [check["passed"] for check in content["checks"]] == [True] * 6
