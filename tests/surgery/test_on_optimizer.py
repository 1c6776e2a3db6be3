import pytest
import torch
from tiny import untrained_model

from inheritune.surgery.blockmap import grown
from inheritune.surgery.in_memory import assemble, growth, inherit
from inheritune.surgery.on_optimizer import carry

HELD, WANTED = [0, 3], [0, 1, 3]


def state_of(blocks: list[int], sign: float = 1.0) -> dict[str, dict[str, torch.Tensor]]:
    """A state whose values tell which block they belong to."""
    inside = {f"h.{place}.w": {"m": torch.tensor(sign * block)} for place, block in enumerate(blocks)}
    return inside | {"wte.weight": {"m": torch.tensor(sign * 7)}}


@pytest.mark.parametrize(
    ("start", "kept", "values"),
    [
        ("inherited", {}, [0.0, None, 3.0]),
        ("inherited", state_of([0, 1, 2, 3], sign=-1.0), [0.0, -1.0, 3.0]),  # block 1 returns to a state that was kept
        ("copied", {}, [0.0, 0.0, 3.0]),
        ("random", state_of([0, 1, 2, 3], sign=-1.0), [0.0, None, 3.0]),
    ],
)
def test_state_follows_its_block_to_its_new_place(start, kept, values) -> None:
    """A target of blocks 0, 3 grows to 0, 1, 3: block 3 moves from place 1 to 2, and place 1 is new."""
    config = untrained_model("gpt2").config
    found = carry([state_of(HELD), kept], grown(HELD, WANTED, start), "h", config)
    wanted = {f"h.{place}.w": value for place, value in enumerate(values) if value is not None}
    assert {name: own["m"].item() for name, own in found.items()} == {**wanted, "wte.weight": 7.0}


def test_where_a_move_is_folded_into_the_queries_the_moments_scale_as_the_gradients_do() -> None:
    reference = untrained_model("gpt2", scale_attn_by_inverse_layer_idx=True)
    target = inherit(reference, HELD)
    block_map = growth(target, reference, HELD, WANTED, "inherited")
    grown_model = assemble([target, reference], block_map)
    tokens_BT = torch.arange(2, 34).view(2, 16)
    # With block 1 silenced the grown model is the target, its last block at another index.
    for tensor in grown_model.transformer.h[1].parameters():
        tensor.data.zero_()
    moments = []
    for model in (target, grown_model):
        model.zero_grad()
        model(tokens_BT, labels=tokens_BT).loss.backward()
        moments.append(
            {
                name: {"exp_avg": p.grad, "exp_avg_sq": p.grad**2, "step": torch.ones(1)}
                for name, p in model.named_parameters()
            }
        )
    carried = carry([moments[0], {}], block_map, "transformer.h", grown_model.config)
    name = "transformer.h.2.attn.c_attn.weight"
    assert not torch.allclose(moments[0]["transformer.h.1.attn.c_attn.weight"]["exp_avg"], carried[name]["exp_avg"])
    for key, tensor in carried[name].items():
        wanted = moments[1][name][key]
        # Queries, keys and values side by side: the queries' gradients are far smaller than the others, and they are scaled.
        for own, other in zip(tensor.split(24, dim=-1), wanted.split(24, dim=-1), strict=True):
            torch.testing.assert_close(own, other, rtol=1e-3, atol=1e-4 * other.abs().max().item())
