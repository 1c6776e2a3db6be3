"""Cutting and growing in memory: parts, what stands outside, growth, folding, the source untouched."""

import copy

import pytest
import torch
from families import DEPTH, reference
from transformers import GPT2Config, GPT2LMHeadModel

from inheritune.decoder.parts import part_of
from inheritune.errors import InputError, ModelError
from inheritune.surgery.in_memory import fresh, grow, inherit
from inheritune.surgery.proof import prove


def changed(model, other):
    """Names of the tensors in which two models of one shape differ."""
    theirs = other.state_dict()
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, theirs[name])}


@pytest.mark.parametrize("parts", [["attention"], ["mlp"], ["norms"], ["attention", "norms"]])
def test_parts_are_inherited_and_the_rest_is_as_the_architecture_starts(parts):
    model = reference("llama")
    target = inherit(model, range(DEPTH), parts=parts, seed=3)
    start = fresh(model, DEPTH, seed=3)
    for name in target.state_dict():
        inherited = "layers." not in name or part_of(name.split(".", 3)[3]) in parts
        source = model if inherited else start
        assert torch.equal(target.state_dict()[name], source.state_dict()[name]), name


@pytest.mark.parametrize(
    ("family", "outside", "lost"),
    [
        ("gpt2", "all", set()),
        ("gpt2", "as-released", {"transformer.wpe.weight", "transformer.ln_f.weight", "transformer.ln_f.bias"}),
        ("llama", "as-released", {"model.embed_tokens.weight", "model.norm.weight"}),
        ("llama", "none", {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}),
    ],
)
def test_outside_is_inherited_as_asked(family, outside, lost):
    model = reference(family)
    assert changed(inherit(model, range(DEPTH), outside=outside), model) == lost


def test_the_source_and_the_random_state_stay_as_they_are():
    model = reference("qwen3")
    before, config = copy.deepcopy(model.state_dict()), model.config.to_dict()
    state = torch.get_rng_state()
    target = inherit(model, "0,2-3", parts=["mlp"])
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config.to_dict() == config


def test_fresh_is_the_architecture_s_own_start():
    config = GPT2Config(n_layer=3, n_embd=16, n_head=2, vocab_size=32, n_positions=16)
    torch.manual_seed(7)
    own = GPT2LMHeadModel(config)
    assert changed(fresh(config, 3, seed=7), own) == set()
    assert changed(fresh(own, 3, seed=8), own) != set()


def test_growing_keeps_the_trained_blocks_and_takes_new_ones_from_the_reference():
    model = reference("llama")
    target = inherit(model, [0, 2, 5])
    with torch.no_grad():
        for parameter in target.parameters():
            parameter += 1.0
    result = grow(target, model, held=[0, 2, 5], wanted=[0, 1, 2, 5]).state_dict()
    for place, (source, block) in enumerate([(target, 0), (model, 1), (target, 1), (target, 2)]):
        own = source.state_dict()[f"model.layers.{block}.mlp.up_proj.weight"]
        assert torch.equal(result[f"model.layers.{place}.mlp.up_proj.weight"], own)
    assert torch.equal(result["model.norm.weight"], target.state_dict()["model.norm.weight"])


def test_new_blocks_may_start_random():
    model = reference("llama")
    target = inherit(model, [0, 1])
    result = grow(target, model, held=[0, 1], wanted=[0, 1, 2], start="random", seed=5)
    assert changed(inherit(result, [0, 1]), target) == set()
    assert changed(inherit(result, [2]), inherit(model, [2])) != set()


def test_a_block_that_normalises_the_residual_is_no_identity():
    model = reference("openai-gpt")
    target = inherit(model, [0, 1])
    with pytest.raises(ModelError, match="'openai-gpt' cannot be made an identity"):
        grow(target, model, held=[0, 1], wanted=[0, 1, 2], start="identity")


def test_inverse_layer_scaling_is_folded_into_the_queries():
    config = GPT2Config(n_layer=6, n_embd=32, n_head=4, vocab_size=96, scale_attn_by_inverse_layer_idx=True)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_attn.weight.mul_(20)  # scores large enough for the scale to matter
    prove(inherit(model, [0, 3, 5]), model, [0, 3, 5]).require()
    target = inherit(model, [1, 4])
    prove(grow(target, model, held=[1, 4], wanted=[0, 1, 3, 4]), model, [0, 1, 3, 4]).require()
    unfolded = inherit(model, [0, 3, 5])
    with torch.no_grad():
        unfolded.transformer.h[1].attn.c_attn.weight.copy_(model.transformer.h[3].attn.c_attn.weight)
    assert not prove(unfolded, model, [0, 3, 5]).passed


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: inherit(model, [0, 6]), "Block 6"),
        (lambda model: inherit(model, []), "empty"),
        (lambda model: inherit(model, [0], parts=["heads"]), "heads"),
        (lambda model: inherit(model, [0], outside="some"), "some"),
        (lambda model: fresh(model, 0, seed=0), "0 blocks"),
        (lambda model: grow(model, model, held=[0, 1], wanted=[0]), "2 held"),
        (lambda model: grow(model, model, held=range(6), wanted=[9]), "Block 9"),
        (lambda model: grow(model, model, held=range(6), wanted=[0], start="warm"), "warm"),
        (lambda model: grow(model, model, held=range(6), wanted=[0, 1]), "would drop 2-5"),
    ],
)
def test_wrong_asks_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call(reference("llama"))


def test_a_name_for_a_model_is_refused_in_a_sentence():
    for act in (lambda: inherit("bundled:laptop", [0]), lambda: prove("bundled:laptop")):
        with pytest.raises(ModelError, match=r"loaded model is wanted here, and this is 'bundled:laptop': load it"):
            act()
