"""Every family, every kind of cut; the oracle is the reference itself with its own blocks called in that order."""

import pytest
import torch
from families import DEPTH, EXPERTS, FAMILIES, FIRST, GAPS, GROUPED, OLD, OTHERS, REPEATS, TOKENS, reference
from shrink import shrink
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from inheritune.decoder.anatomy import anatomy, refuse_unsupported
from inheritune.decoder.kinds import require_kinds
from inheritune.errors import ModelError
from inheritune.surgery.in_memory import grow, inherit
from inheritune.surgery.proof import prove

TOKENS_BT = torch.randint(3, 96, (2, 24), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model, tokens_BT=TOKENS_BT):
    return model(tokens_BT, use_cache=False).logits


@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_cuts_are_proved_against_the_reference(family):
    model = reference(family)
    for blocks in (FIRST, GAPS, REPEATS):
        prove(inherit(model, blocks), model, blocks).require()


@torch.no_grad()
@pytest.mark.parametrize("family", [*FAMILIES, *OTHERS])
def test_the_first_blocks_give_what_they_give_in_the_reference(family):
    """Without the proof: each block's output, seen from outside, is the same bits in both models."""
    outputs = []
    for model in (inherit(reference(family), FIRST), reference(family)):
        seen = []
        for block in anatomy(model).blocks[: len(FIRST)]:
            block.register_forward_hook(lambda _module, _args, given, seen=seen: seen.append(given))
        logits(model)
        outputs.append([given if torch.is_tensor(given) else given[0] for given in seen])
    assert len(outputs[0]) == len(outputs[1]) == len(FIRST)
    for own, other in zip(*outputs, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_growing_back_gives_the_reference(family):
    model = reference(family)
    target = inherit(model, GAPS)
    whole = grow(target, model, held=GAPS, wanted=range(DEPTH))
    assert torch.equal(logits(whole), logits(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_identity_blocks_change_nothing(family):
    model = reference(family)
    held, wanted = [0, 2, 4], [0, 2, 3, 4, 5]
    target = inherit(model, held)
    grown = grow(target, model, held=held, wanted=wanted, start="identity")
    assert torch.equal(logits(grown), logits(target))
    assert anatomy(grown).depth == len(wanted)


@pytest.mark.parametrize("family", ["jamba"])
def test_a_pattern_that_the_blocks_break_is_refused_by_its_fields(family):
    with pytest.raises(ModelError, match="attn_layer_period and attn_layer_offset"):
        inherit(reference(family), GAPS)
    prove(inherit(reference(family), FIRST), reference(family), FIRST).require()


@pytest.mark.parametrize(
    ("family", "blocks", "field"),
    [("diffllama", GAPS, "lambda_init"), ("minicpm3", FIRST, "residual_scale")],
)
def test_blocks_that_compute_with_their_index_are_refused(family, blocks, field):
    with pytest.raises(ModelError, match=field):
        inherit(reference(family), blocks)


@pytest.mark.parametrize("family", ["bert", "t5", "roberta"])
def test_what_is_no_decoder_is_refused(family):
    with pytest.raises(ModelError, match=family):
        refuse_unsupported(AutoConfig.for_model(family))


@pytest.mark.parametrize("family", ["openai-gpt", "minimax"])
def test_blocks_that_scale_or_normalise_the_residual_are_no_identities(family):
    """Post-norm blocks change what goes through them even where their parts add nothing."""
    fields = {"minimax": {"layer_types": ["full_attention", "linear_attention"] * 3, **EXPERTS, "num_local_experts": 4}}
    config = AutoConfig.for_model(
        family, **{**TOKENS, **(OLD if family == "openai-gpt" else GROUPED), **fields.get(family, {})}
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    target = inherit(model, [0, 1, 2])
    with pytest.raises(ModelError, match="identity"):
        grow(target, model, held=[0, 1, 2], wanted=[0, 1, 2, 3], start="identity")


def test_a_block_that_keeps_its_keys_for_nobody_may_stand_elsewhere():
    """Gemma 4 marks the last block of each kind, whether or not later ones read its keys."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(shrink("gemma4_text", hidden_size_per_layer_input=0)).eval()
    prove(inherit(model, GAPS), model, GAPS).require()


def test_a_block_that_keeps_its_keys_for_others_may_not():
    def block(keeps: bool, reads: bool) -> nn.Module:
        made = nn.Module()
        made.attn = nn.Module()
        made.attn.store_full_length_kv, made.attn.is_kv_shared_layer = keeps, reads
        return made

    meant, config = [block(False, False), block(False, True)], [LlamaConfig()]
    require_kinds([block(True, False)], meant[:1], config, frozenset())
    with pytest.raises(ModelError, match="store_full_length_kv is True and not False"):
        require_kinds([block(True, False), block(False, True)], meant, config, frozenset())


def test_matrices_as_many_as_the_blocks_are_not_taken_for_them():
    """Gemma 3n has as many projections beside its blocks as a cut to three has blocks."""
    config = shrink("gemma3n_text", num_kv_shared_layers=0, layer_types=["sliding_attention", "full_attention"] * 3)
    config.activation_sparsity_pattern = [0.0] * DEPTH
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(ModelError, match="embed_tokens_per_layer"):
        inherit(model, FIRST)
