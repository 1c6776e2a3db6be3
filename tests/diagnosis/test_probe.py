"""Maps seen while a model runs, against the model's own eager maps; and the model, which is left as it was."""

import copy
import math
from collections.abc import Callable
from typing import Any

import families
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_rank_and_columns import CLOSE, reference
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from inheritune.decoder.anatomy import anatomy
from inheritune.diagnosis.columns import column_energies, dominant_mass
from inheritune.diagnosis.meanmaps import mean_maps
from inheritune.diagnosis.probe import _dense, _fused_weights, probing
from inheritune.diagnosis.rank import approximate_rank

TOKENS_BT = torch.randint(3, 96, (2, 40), generator=torch.Generator().manual_seed(0))
ELSEWHERE = {"falcon"}
SEEN = [name for name in families.FAMILIES if name not in ELSEWHERE] + ["gpt_neo", "qwen3_next", "lfm2", "jamba"]
MPT = {"n_layers": 3, "d_model": 32, "n_heads": 4, "max_seq_len": 64}
FALCON = {**families.FAMILIES["falcon"], "num_hidden_layers": 3}


class Keeper:
    def __init__(self) -> None:
        self.maps: dict[int, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}

    def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
        assert layer not in self.maps
        self.maps[layer] = maps_BHTT.clone()

    def saw_output(self, layer: int, share_BH: Tensor) -> None:
        self.outputs[layer] = share_BH


def fresh(kind: str, **fields: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**families.TOKENS, **fields})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model


@torch.no_grad()
def seen(model: PreTrainedModel) -> Keeper:
    keeper, plain = Keeper(), model(TOKENS_BT, use_cache=False).logits
    with probing(model, keeper):
        probed = model(TOKENS_BT, use_cache=False).logits
    assert torch.equal(plain, probed)
    assert torch.equal(plain, model(TOKENS_BT, use_cache=False).logits)
    assert set(keeper.outputs) == set(keeper.maps)
    return keeper


@torch.no_grad()
def eager_maps(model: PreTrainedModel) -> list[Tensor]:
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    found = eager(TOKENS_BT, use_cache=False, output_attentions=True).attentions
    return [maps for maps in found if maps is not None]


def agree(mine_BHTT: Tensor, theirs_BHTT: Tensor) -> None:
    torch.testing.assert_close(mine_BHTT, theirs_BHTT, atol=1e-5, rtol=0)
    ranks = approximate_rank(mine_BHTT, 0.9).flatten().tolist()
    masses = dominant_mass(column_energies(mine_BHTT), 0.9).flatten().tolist()
    for map_TT, rank, mass in zip(theirs_BHTT.flatten(0, 1).double().numpy(), ranks, masses, strict=True):
        for measure, values in ((rank, np.linalg.svd(map_TT, compute_uv=False) ** 2), (mass, (map_TT**2).sum(0))):
            # Two kernels differ in the last bit: so may the side of the threshold on which a share falls.
            assert measure == reference(values)[0] or near(values)


def near(values: np.ndarray) -> bool:
    shares = np.sort(values)[::-1].cumsum() / values.sum()
    return bool((abs(shares - 0.9) < 10 * CLOSE).any())


@pytest.mark.parametrize("family", SEEN)
def test_maps_ranks_and_masses_equal_those_of_the_eager_model(family: str) -> None:
    model = families.reference(family)
    keeper, expected = seen(model), eager_maps(model)
    assert len(keeper.maps) == len(expected) > 0
    for layer, theirs_BHTT in zip(sorted(keeper.maps), expected, strict=True):
        agree(keeper.maps[layer], theirs_BHTT)


@pytest.mark.parametrize(
    "model", [fresh("mpt", **MPT), fresh("falcon", **FALCON, alibi=True, attn_implementation="eager")]
)
def test_alibi_families_are_seen_at_their_own_softmax(model: PreTrainedModel) -> None:
    keeper = seen(model)
    with torch.no_grad():
        expected = model(TOKENS_BT, use_cache=False, output_attentions=True).attentions
    for layer, theirs_BHTT in enumerate(expected):
        agree(keeper.maps[layer], theirs_BHTT)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "gpt_oss"])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_every_kernel_of_the_cpu_shows_the_same_maps(family: str, kernel: str) -> None:
    model = copy.deepcopy(families.reference(family))
    if kernel == "sdpa" and not model._supports_sdpa:
        pytest.skip("the family has no fused kernel")
    model.set_attn_implementation(kernel)
    found = seen(model).maps
    for layer, theirs_BHTT in enumerate(eager_maps(model)):
        agree(found[layer], theirs_BHTT)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2", "bloom"])
def test_maps_in_bf16_are_measured_as_what_they_are(family: str) -> None:
    """Oracle: the same bf16 maps in float64. (Another kernel rounds otherwise, so that its maps are others.)"""
    model = copy.deepcopy(families.reference(family)).bfloat16()
    model.set_attn_implementation("eager")
    found = seen(model).maps
    for layer, theirs_BHTT in enumerate(eager_maps(model)):
        mine_BHTT = found[layer]
        assert mine_BHTT.dtype == torch.bfloat16 and torch.equal(mine_BHTT, theirs_BHTT)
        agree(mine_BHTT, theirs_BHTT)


@pytest.mark.parametrize("alibi", [False, True])
def test_falcon_is_seen_at_the_fused_attention_that_it_calls_itself(
    alibi: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: attention over an identity matrix of values gives back the weights. (Its eager path computes others.)"""
    model, found = fresh("falcon", **FALCON, alibi=alibi), []
    keeper, fused = seen(model), F.scaled_dot_product_attention

    def recording(query: Tensor, key: Tensor, value: Tensor, **kwargs: Any) -> Tensor:
        key = key.expand(*query.shape[:2], *key.shape[2:])
        identity = torch.eye(key.shape[-2]).expand(*key.shape[:2], -1, -1)
        found.append(fused(query, key, identity, **kwargs))
        return fused(query, key, value, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    with torch.no_grad():
        model(TOKENS_BT, use_cache=False)
    assert len(found) == len(keeper.maps) == 3
    for layer, theirs_BHTT in enumerate(found):
        agree(keeper.maps[layer], theirs_BHTT)


def test_a_family_without_softmax_attention_shows_no_maps() -> None:
    assert seen(families.reference("mamba")).maps == {}


def test_head_outputs_are_the_norms_of_what_each_head_adds() -> None:
    model = families.reference("llama")
    keeper = seen(model)
    attention, inputs = model.model.layers[2].self_attn, []
    hooks = [attention.o_proj.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))]
    hooks.append(model.model.layers[2].register_forward_pre_hook(lambda _, args: inputs.append(args[0])))
    with torch.no_grad():
        model(TOKENS_BT, use_cache=False)
    for hook in hooks:
        hook.remove()
    residual_BTD, heads_BTD = inputs
    for head in range(4):
        alone = torch.zeros_like(heads_BTD)
        alone[..., 8 * head : 8 * head + 8] = heads_BTD[..., 8 * head : 8 * head + 8]
        share_BT = (alone @ attention.o_proj.weight.T).norm(dim=-1) / residual_BTD.norm(dim=-1)
        torch.testing.assert_close(keeper.outputs[2][:, head], share_BT.mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "meets"),
    [
        ("gemma2", "pre_feedforward_layernorm"),
        ("gemma3_text", "pre_feedforward_layernorm"),
        ("glm4", "post_attention_layernorm"),
        ("olmo2", "mlp"),
        ("granite", "post_attention_layernorm"),
        ("minicpm3", "post_attention_layernorm"),
    ],
)
def test_head_outputs_are_taken_where_they_meet_the_residual(family: str, meets: str) -> None:
    """Oracle: a norm scales each channel of what attention gives, or a number all, and each head's part with it; `meets` reads
    the sum."""
    model = families.reference(family)
    keeper, block = seen(model), anatomy(model).blocks[2]
    inputs: dict[str, Tensor] = {}
    before, projection, after = block, block.self_attn.o_proj, block.get_submodule(meets)

    def taking(name: str) -> Any:
        def take(_module: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            inputs[name] = args[0] if args else kwargs["hidden_states"]

        return take

    hooks = [
        module.register_forward_pre_hook(taking(name), with_kwargs=True)
        for name, module in (("residual", before), ("heads", projection), ("sum", after))
    ]
    with torch.no_grad():
        model(TOKENS_BT, use_cache=False)
    for hook in hooks:
        hook.remove()
    heads_BTD, count = inputs["heads"], keeper.maps[2].shape[1]
    with torch.no_grad():
        scale_BTD = (inputs["sum"] - inputs["residual"]) / projection(heads_BTD)
        for head, part in enumerate(torch.arange(heads_BTD.shape[-1]).chunk(count)):
            written_BTD = heads_BTD[..., part] @ projection.weight[:, part].T * scale_BTD
            share_BT = written_BTD.norm(dim=-1) / inputs["residual"].norm(dim=-1)
            torch.testing.assert_close(keeper.outputs[2][:, head], share_BT.mean(1), atol=1e-4, rtol=1e-3)


def test_mean_maps_are_seen_in_passes_that_end_behind_the_last_layer_asked_for() -> None:
    model, called = copy.deepcopy(families.reference("llama")), list[int]()
    keeper = seen(model)
    for index, block in enumerate(anatomy(model).blocks):
        block.register_forward_hook(lambda *_, index=index: called.append(index))
    found = mean_maps(model, TOKENS_BT, {"one": (2, 1), "other": (0, 3)})
    assert called == [0, 1, 2]
    torch.testing.assert_close(found["one"], keeper.maps[2][:, 1].mean(0))
    torch.testing.assert_close(found["other"], keeper.maps[0][:, 3].mean(0))


def by_hand(
    query_1HTE: Tensor, key_1GTE: Tensor, scale: float, sees: Callable[[int, int], bool]
) -> list[list[list[float]]]:
    """Attention weights in plain Python, head by head: query head h reads key head h // (H / G)."""
    shared, maps = query_1HTE.shape[1] // key_1GTE.shape[1], []
    for head, queries in enumerate(query_1HTE[0].double().tolist()):
        keys = key_1GTE[0, head // shared].double().tolist()
        rows = []
        for at, query in enumerate(queries):
            weights = [
                math.exp(scale * sum(q * k for q, k in zip(query, key, strict=True))) if sees(at, other) else 0.0
                for other, key in enumerate(keys)
            ]
            rows.append([weight / sum(weights) for weight in weights])
        maps.append(rows)
    return maps


@pytest.mark.parametrize("scale", [None, 0.7])
def test_fused_weights_share_key_heads_and_are_scaled(scale: float | None) -> None:
    query = torch.randn(1, 4, 6, 3, generator=torch.Generator().manual_seed(1))
    key = torch.randn(1, 2, 6, 3, generator=torch.Generator().manual_seed(2))
    found = _fused_weights(query, key, is_causal=True, scale=scale, enable_gqa=True)
    expected = by_hand(query, key, 3**-0.5 if scale is None else scale, lambda at, other: other <= at)
    torch.testing.assert_close(found[0].double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)


def test_a_window_of_three_holds_the_query_and_two_before_it() -> None:
    query, key = torch.randn(1, 2, 6, 3), torch.randn(1, 2, 6, 3)
    seen_TT = _dense(None, query, key, 3)[0, 0] == 0
    assert seen_TT.tolist() == [[at - 2 <= other <= at for other in range(6)] for at in range(6)]


def hooks_of(model: PreTrainedModel) -> list[int]:
    return [hook for part in model.modules() for hook in (*part._forward_hooks, *part._forward_pre_hooks)]


def test_everything_is_put_back_after_an_error() -> None:
    model = families.reference("gpt2")
    before, hooks = dict(ALL_ATTENTION_FUNCTIONS._local_mapping), hooks_of(model)

    class Failing(Keeper):
        def saw_map(self, layer: int, maps_BHTT: Tensor) -> None:
            raise RuntimeError("observer")

    with pytest.raises(RuntimeError, match="observer"), probing(model, Failing()):
        model(TOKENS_BT, use_cache=False)
    assert before == ALL_ATTENTION_FUNCTIONS._local_mapping
    assert hooks_of(model) == hooks
    seen(model)


def test_another_model_that_runs_meanwhile_is_not_watched() -> None:
    watched, other, keeper = families.reference("gpt2"), families.reference("llama"), Keeper()
    with torch.no_grad(), probing(watched, keeper):
        other(TOKENS_BT, use_cache=False)
    assert keeper.maps == {}


def test_learned_sinks_take_their_share_of_every_row() -> None:
    model = families.reference("gpt_oss")
    maps = seen(model).maps
    assert sorted(maps) == list(range(anatomy(model).depth))
    rows = torch.stack(list(maps.values())).sum(-1)
    assert (rows < 1).all()
