"""Where each method starts, against the reference's own tensors; distillation's loss and the halves, by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import LENGTH, VOCABULARY, untrained_model
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from inheritune.decoder.anatomy import anatomy
from inheritune.diagnosis.diagnose import diagnose
from inheritune.errors import ModelError
from inheritune.methods import METHODS, Given
from inheritune.methods.distil import every_other
from inheritune.records.cells import ChosenBlocks
from inheritune.runs.folder import once


def texts_of(count: int, length: int) -> Tensor:
    return torch.randint(0, VOCABULARY, (count, min(length, LENGTH)), generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def reference(gpt2: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(gpt2)


def given(reference: PreTrainedModel, depth: int = 4, seed: int = 3) -> Given:
    return Given(reference, depth, seed, LENGTH, texts_of)


def started(name: str, reference: PreTrainedModel, depth: int = 4) -> PreTrainedModel:
    """Every phase's start, without training in between."""
    before, source = None, given(reference, depth)
    for phase in METHODS[name].phases:
        before = phase.start(source, before)
    assert before is not None
    return before


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(left, right) for left, right in pairs)


def origins(model: PreTrainedModel, reference: PreTrainedModel) -> list[int | None]:
    """For each block the reference's block that it equals, or None."""
    parents = list(enumerate(anatomy(reference).blocks))
    return [next((at for at, parent in parents if same(block, parent)), None) for block in anatomy(model).blocks]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("published", [0, 1, 2, 3]), ("as-released", [0, 1, 2, 3]), ("hybrid", [0, 1, 0, 1]),
        ("hybrid-as-released", [0, 1, 0, 1]), ("last-blocks", [1, 2, 3, 4]), ("middle-blocks", [0, 1, 2, 3]),
        ("logits-inherited", [0, 1, 2, 3]), ("distilbert", [0, 2, 4, 2]), ("identity", [0, 1, 2, None]),
        ("random", [None] * 4), ("random-twice", [None] * 4), ("random-total", [None] * 4), ("stacking", [None] * 4),
        ("stacking-twice", [None] * 4), ("late-expansion", [None] * 4), ("logits-random", [None] * 4),
        ("distilbert-random", [None] * 4), ("attention-only", [None] * 4), ("mlp-only", [None] * 4),
        ("without-norms", [None] * 4), ("reference", [0, 1, 2, 3, 4]),
    ],
)  # fmt: skip
def test_which_blocks_a_method_starts_from(name: str, blocks: list[int | None], reference: PreTrainedModel) -> None:
    model = started(name, reference)
    assert origins(model, reference) == blocks
    whole = anatomy(reference).blocks
    assert same(model.transformer.wte, reference.transformer.wte) == (
        METHODS[name].needs_reference and "random" not in name
    )
    if name.endswith("as-released"):
        assert not same(model.transformer.wpe, reference.transformer.wpe)
        assert torch.equal(model.transformer.ln_f.weight, torch.ones(24))
    assert len(whole) == 5


@pytest.mark.parametrize("name", ["inheritune", "influence", "angular", "healing"])
def test_measured_choices_are_counted_and_repaired_ones_differ(name: str, reference: PreTrainedModel) -> None:
    source = given(reference, depth=3)
    model = METHODS[name].phases[0].start(source, None)
    found = origins(model, reference)
    assert source.spent.flops > 0 and source.spent.tokens > 0
    healed = name in ("inheritune", "healing")
    if not healed:
        assert None not in found and found == sorted(set(found))
        assert name != "angular" or len(set(range(5)) - set(found)) == 2
    elif found != [0, 1, 2]:
        assert None in found


def test_lazy_blocks_are_those_of_the_lowest_rank(reference: PreTrainedModel) -> None:
    source = given(reference, depth=2)
    ranks = [
        layer.max_rank or 0.0 for layer in diagnose(reference, texts_of(*source.diagnosed), curve_sequences=0).layers
    ]
    lowest = sorted(sorted(range(5), key=lambda block: ranks[block])[:2])
    model = METHODS["lazy-blocks"].phases[0].start(source, None)
    assert sorted(ranks)[1] < sorted(ranks)[2] and origins(model, reference) == lowest and source.spent.flops > 0
    others = given(reference, depth=3).chosen("lazy")
    assert sorted([*lowest, *others]) == [0, 1, 2, 3, 4]


def test_a_choice_is_made_once_and_charged_to_each(
    reference: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def keep(criterion: str, make: Callable[[], ChosenBlocks]) -> ChosenBlocks:
        return once(ChosenBlocks, tmp_path / criterion, make)

    first = replace(given(reference, depth=3), keep=keep)
    blocks = first.chosen("influence")
    monkeypatch.setattr("inheritune.methods.method.diagnose", None)
    second = replace(given(reference, depth=3, seed=4), keep=keep)
    assert second.chosen("influence") == blocks and second.spent == first.spent


def test_only_the_named_parts_are_inherited(reference: PreTrainedModel) -> None:
    parts = {"attention-only": "attn", "mlp-only": "mlp"}
    for name, own in parts.items():
        model = started(name, reference)
        for block, parent in zip(model.transformer.h, reference.transformer.h, strict=False):
            assert same(getattr(block, own), getattr(parent, own)) and same(block.ln_1, parent.ln_1)
            other = "mlp" if own == "attn" else "attn"
            assert not same(getattr(block, other), getattr(parent, other))
    block, parent = started("without-norms", reference).transformer.h[1], reference.transformer.h[1]
    assert same(block.attn, parent.attn) and same(block.mlp, parent.mlp)
    assert torch.equal(block.ln_1.weight, torch.ones(24)) and not same(block.ln_1, parent.ln_1)


def test_identity_blocks_change_nothing(reference: PreTrainedModel) -> None:
    tokens_BT = texts_of(2, 16)
    expanded, cut = started("identity", reference), started("published", reference, depth=3)
    with torch.no_grad():
        assert torch.equal(expanded(tokens_BT).logits, cut(tokens_BT).logits)


def test_stacking_copies_what_the_first_phase_trained(reference: PreTrainedModel) -> None:
    source, phases = given(reference, depth=3), METHODS["stacking"].phases
    half = phases[0].start(source, None)
    assert anatomy(half).depth == 2
    with torch.no_grad():
        for parameter in half.parameters():
            parameter.add_(0.125)
    whole = phases[1].start(source, half)
    assert origins(whole, half) == [0, 1, 0] and same(whole.transformer.wte, half.transformer.wte)


def test_late_expansion_keeps_the_trained_block(reference: PreTrainedModel) -> None:
    source, phases = given(reference), METHODS["late-expansion"].phases
    one = phases[0].start(source, None)
    deep = phases[1].start(source, one)
    assert origins(deep, one) == [0, None, None, None] and [phase.share for phase in phases] == [0.8, 0.2]


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_half_width_takes_the_first_heads(family: str) -> None:
    changes = {} if family == "gpt2" else {"num_key_value_heads": 2}
    whole = untrained_model(family, **changes)
    half = METHODS["half-width"].phases[0].start(given(whole), None)
    assert anatomy(half).depth == anatomy(whole).depth
    assert half.config.num_attention_heads == whole.config.num_attention_heads // 2
    if family == "llama":
        own, parent = half.model.layers[1], whole.model.layers[1]
        assert torch.equal(own.self_attn.q_proj.weight, parent.self_attn.q_proj.weight[:12])
        assert torch.equal(own.self_attn.o_proj.weight, parent.self_attn.o_proj.weight[:, :12])
        assert torch.equal(own.mlp.down_proj.weight, parent.mlp.down_proj.weight[:, :24])
    else:
        own, parent = half.transformer.h[1].attn.c_attn.weight, whole.transformer.h[1].attn.c_attn.weight
        assert torch.equal(own, torch.cat([parent[:12, at : at + 12] for at in (0, 24, 48)], dim=1))


def test_half_width_is_refused_by_name(references: Callable[[str], Path]) -> None:
    for model, words in (
        (untrained_model("gpt2", n_head=3), "'gpt2' with 3 heads"),
        (untrained_model("llama"), "1 for keys"),
    ):
        with pytest.raises(ModelError, match=words):
            METHODS["half-width"].phases[0].start(given(model), None)


def test_every_other_block_as_the_paper_lays_them_out() -> None:
    assert every_other(16, 24) == [*range(0, 24, 2), 18, 19, 20, 21]
    assert every_other(4, 24) == [0, 2, 4, 6]
